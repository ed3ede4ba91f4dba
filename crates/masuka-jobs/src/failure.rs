//! What a user is told when a job cannot be done: a code for programs, a message with the remedy for people.

use masuka_diffusion::Error as EngineError;
use masuka_storage::queue::Failure;
use masuka_training::Error as TrainingError;

/// How a job ends that does not succeed.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Something asked it to stop.
    Interrupted,
    /// It cannot be done.
    Failed(Failure),
}

impl Ending {
    /// A failure of this code.
    pub(crate) fn failed(code: &str, message: impl ToString) -> Self {
        Self::Failed(Failure { code: code.into(), message: message.to_string() })
    }

    /// What the log calls it.
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Failed(failure) => &failure.code,
        }
    }

    /// A picture that was drawn and could not be kept.
    pub(crate) fn not_stored(error: &anyhow::Error) -> Self {
        let is_full = |cause: &(dyn std::error::Error + 'static)| {
            let io = cause.downcast_ref::<std::io::Error>();
            io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull)
        };
        if error.chain().any(is_full) {
            let message =
                "the picture cannot be stored: the disk is full; make room and retry the job";
            return Self::failed("disk_full", message);
        }
        let message = format!(
            "the picture cannot be stored: {error}; see GET /ready, and retry the job once the storage answers"
        );
        Self::failed("storage_failed", message)
    }
}

impl From<EngineError> for Ending {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Cancelled => return Self::Interrupted,
            EngineError::Invalid { .. } => "invalid_value",
            EngineError::OutOfMemory(_) => "out_of_memory",
            EngineError::MissingTensor { .. }
            | EngineError::TensorShape { .. }
            | EngineError::UnknownTensors { .. }
            | EngineError::Model { .. } => "model_unusable",
            EngineError::Device(_) => "device_unusable",
            EngineError::Io { .. } => "file_unreadable",
            EngineError::Picture { .. } | EngineError::Tensor(_) => "engine_failed",
        };
        Self::failed(code, error)
    }
}

impl From<TrainingError> for Ending {
    fn from(error: TrainingError) -> Self {
        let code = match error {
            TrainingError::Engine(error) => return error.into(),
            TrainingError::Invalid { .. } => "invalid_value",
            TrainingError::Unusable { .. } => "training_unusable",
            TrainingError::NotFinite { .. } => "loss_not_finite",
            TrainingError::BadAdapter { .. } => "adapter_unusable",
            TrainingError::Io { .. } => "file_unreadable",
        };
        Self::failed(code, error)
    }
}

impl From<masuka_storage::Error> for Ending {
    fn from(error: masuka_storage::Error) -> Self {
        let code = match &error {
            masuka_storage::Error::NotFound { .. } => "not_found",
            masuka_storage::Error::Damaged { .. } => "file_damaged",
            _ => "storage_failed",
        };
        Self::failed(code, error)
    }
}

impl From<anyhow::Error> for Ending {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<EngineError>() {
            Ok(error) => error.into(),
            Err(error) => Self::failed("model_unusable", format!("{error:#}")),
        }
    }
}
