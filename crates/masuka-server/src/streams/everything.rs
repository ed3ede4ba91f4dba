//! Watching everything: every message is one event.

use bytes::Bytes;

use super::listener::Telling;
use crate::event_pump::{Changed, Event, Step};
use crate::views::progress::ServerEvent;

/// Tells all that happens, of any job and of none.
pub(crate) struct Everything;

impl Telling for Everything {
    fn job_id(&self) -> Option<&str> {
        None
    }

    fn event(&mut self, event: &Event) -> (Bytes, bool) {
        let message = ServerEvent {
            job_id: event.row.job_id.clone(),
            event: event.row.kind.clone(),
            details: event.payload.clone(),
        };
        (event.of_all.bytes(Some(event.row.id), &message), false)
    }

    fn step(&mut self, step: &Step) -> Bytes {
        let (job_id, details) = (step.job_id.clone(), step.progress.clone());
        step.of_all.bytes(None, &ServerEvent { job_id, event: "step".into(), details })
    }

    fn change(&mut self, changed: &Changed) -> Option<Bytes> {
        let Changed { what, details, .. } = changed;
        let (event, details) = (what.clone(), details.clone());
        let message = ServerEvent { event, details, ..ServerEvent::default() };
        Some(changed.of_all.bytes(None, &message))
    }
}
