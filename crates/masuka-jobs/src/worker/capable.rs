//! What this machine has: jobs of base models whose files are elsewhere are left to workers that have them, as long as
//! one lives.

use std::path::Path;

use masuka_storage::base_models;
use masuka_storage::entities::{base_model, process};
use serde_json::Value as Json;

use super::Worker;

/// Under which name a worker's state tells the base models that it has.
pub(super) const STATE: &str = "base_models";

impl Worker {
    /// Looks which base models are here, tells the others of it, and learns which they have.
    pub(super) async fn look_around(&mut self) -> masuka_storage::Result<()> {
        let installed = base_models::list(self.storage.database()).await?;
        let (here, missing): (Vec<_>, Vec<_>) = installed.into_iter().partition(is_here);
        let mut here: Vec<_> = here.into_iter().map(|model| model.id).collect();
        here.sort();
        if here != self.here {
            self.here = here;
            self.tell_state();
        }
        self.elsewhere = match missing.is_empty() {
            true => Vec::new(),
            false => elsewhere(missing, &self.storage.processes().living().await?),
        };
        Ok(())
    }
}

/// Whether the files of a base model are on this machine; what is no path is part of the program.
fn is_here(model: &base_model::Model) -> bool {
    let is_there = |source: &str| {
        let path = Path::new(source);
        !path.is_absolute() || path.exists()
    };
    is_there(&model.source) && model.parts_source.as_deref().is_none_or(is_there)
}

/// Of those that are `missing` here, the ones that a living worker has.
fn elsewhere(missing: Vec<base_model::Model>, living: &[process::Model]) -> Vec<String> {
    let states: Vec<Json> =
        living.iter().filter_map(|process| serde_json::from_str(&process.state).ok()).collect();
    let has = |state: &Json, id: &str| {
        state[STATE].as_array().is_some_and(|ids| ids.iter().any(|known| known == id))
    };
    let ids = missing.into_iter().map(|model| model.id);
    ids.filter(|id| states.iter().any(|state| has(state, id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = env!("CARGO_MANIFEST_DIR");

    fn model(id: &str, source: &str, parts: Option<&str>) -> base_model::Model {
        base_model::Model {
            id: id.into(),
            family: "flux".into(),
            name: id.into(),
            source: source.into(),
            parts_source: parts.map(str::to_owned),
            facts: "{}".into(),
            created_at_ms: 0,
        }
    }

    fn worker(state: &str) -> process::Model {
        process::Model {
            id: "w".into(),
            role: "worker".into(),
            supervisor_id: None,
            pid: 1,
            state: state.into(),
            started_at_ms: 0,
            seen_at_ms: 0,
        }
    }

    #[test]
    fn a_model_is_here_if_all_its_files_are() {
        let nowhere = "/nowhere/at/all";
        assert!(is_here(&model("a", "starter", None)));
        assert!(is_here(&model("a", HERE, None)) && is_here(&model("a", HERE, Some(HERE))));
        assert!(!is_here(&model("a", nowhere, None)));
        assert!(!is_here(&model("a", HERE, Some(nowhere))));
    }

    #[test]
    fn only_what_somebody_has_is_left_to_others() {
        let missing = || vec![model("a", "/nowhere", None), model("b", "/nowhere", None)];
        let living = [worker("{}"), worker(r#"{ "base_models": ["starter", "b"] }"#)];
        assert_eq!(elsewhere(missing(), &living), ["b"]);
        assert_eq!(elsewhere(missing(), &living[..1]), [""; 0]);
    }
}
