//! Watching one job: every message holds the whole state.

use bytes::Bytes;
use masuka_storage::queue::JobStatus;
use serde_json::Value as Json;

use super::encoded::encode;
use super::listener::Telling;
use crate::app::{App, Links};
use crate::error::ApiResult;
use crate::event_pump::{Event, Step};
use crate::views::generation::{ProgressNumbers, progress_numbers};
use crate::views::progress::ProgressMessage;
use crate::views::training::{SampleView, training_progress, training_status};

/// The state of one job as its client was told last.
pub(crate) struct OneJob {
    state: ProgressMessage,
    /// How far it is, while what was missed is repeated, of which nobody knows that.
    numbers: Option<ProgressNumbers>,
    links: Links,
}

impl OneJob {
    /// The picture or the training `id`, for a client that `resumes` or is new.
    ///
    /// # Errors
    /// [`masuka_storage::Error::NotFound`], or the database is gone.
    pub(crate) async fn find(app: &App, links: Links, id: &str, resumes: bool) -> ApiResult<Self> {
        let mut state = current_state(app, id).await?;
        let numbers = resumes.then(|| {
            let numbers = state.numbers();
            let unknown = ProgressNumbers { percent: 0.0, step: 0, image: 0, ..numbers.clone() };
            state.set_numbers(unknown);
            numbers
        });
        Ok(Self { state, numbers, links })
    }

    /// Samples and checkpoints are told of once, in a message of their own.
    fn tell_made(&mut self, payload: &Json) {
        self.state.sample = SampleView::from_event(&payload["sample"], &self.links.refreshed());
        self.state.checkpoint_step = payload["checkpoint"]["step"].as_u64();
    }

    fn tell_status(&mut self, payload: &Json) {
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        let stage = text("stage");
        if let Some(status) = text("status") {
            self.state.status = self.own_word(status, stage.as_deref());
        }
        let state = &mut self.state;
        state.stage = stage;
        state.error_code = text("error_code");
        state.error_message = text("error_message");
        if state.status == JobStatus::Completed.public_name() {
            state.progress = 100.0;
            state.current_step = state.total_steps;
            state.image = state.images;
            state.eta_seconds = Some(0.0);
            state.preview_url = None;
        }
    }

    /// A training that runs is either preparing or training.
    fn own_word(&self, status: String, stage: Option<&str>) -> String {
        let runs = status == JobStatus::Running.public_name();
        match &self.state.training {
            Some(_) if runs => stage.unwrap_or("preparing").to_owned(),
            _ => status,
        }
    }
}

impl Telling for OneJob {
    fn job_id(&self) -> Option<&str> {
        Some(&self.state.job_id)
    }

    fn event(&mut self, event: &Event) -> (Bytes, bool) {
        self.tell_made(&event.payload);
        if self.state.sample.is_none() && self.state.checkpoint_step.is_none() {
            self.tell_status(&event.payload);
        }
        let message = event.of_job.bytes(Some(event.row.id), &self.state);
        (message, is_final(&self.state.status))
    }

    fn step(&mut self, step: &Step) -> Bytes {
        self.state.sample = None;
        self.state.checkpoint_step = None;
        if self.state.training.is_none() {
            self.state.set_numbers(step.numbers.clone());
        } else if step.training.training {
            self.state.set_numbers(ProgressNumbers::from(&step.training));
            self.state.training = Some(step.training.numbers.clone());
        }
        step.of_job.bytes(None, &self.state)
    }

    fn greeting(&mut self, id: i64) -> Option<(Bytes, bool)> {
        if let Some(numbers) = self.numbers.take() {
            self.state.set_numbers(numbers);
        }
        Some((encode(Some(id), &self.state), is_final(&self.state.status)))
    }
}

/// The state of a picture or a training as its row tells it.
async fn current_state(app: &App, id: &str) -> ApiResult<ProgressMessage> {
    match app.storage.generations().find(id).await {
        Ok(found) => {
            let numbers = progress_numbers(&found, &found.spec()?);
            let mut message = ProgressMessage::new(found.id, found.status.public_name(), numbers);
            (message.error_code, message.error_message) = (found.error_code, found.error_message);
            Ok(message)
        }
        Err(masuka_storage::Error::NotFound { .. }) => {
            let found = app.storage.trainings().find(id).await?;
            let progress = training_progress(&found)?;
            let status = training_status(found.job.status()?, progress.training);
            let numbers = ProgressNumbers::from(&progress);
            let job = found.job;
            let mut message = ProgressMessage::new(job.id, status, numbers);
            (message.error_code, message.error_message) = (job.error_code, job.error_message);
            message.training = Some(progress.numbers);
            Ok(message)
        }
        Err(error) => Err(error.into()),
    }
}

fn is_final(status: &str) -> bool {
    let finals = [JobStatus::Completed, JobStatus::Failed, JobStatus::Cancelled];
    status == "deleted" || finals.iter().any(|known| known.public_name() == status)
}
