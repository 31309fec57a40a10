//! Writes to autopilot's configuration.

use std::sync::Arc;

use super::tables::{Change, State};
use crate::model::AutopilotConfig;

impl Change {
    /// Stores autopilot's configuration; with `cas` only if the stored one still has the index that is given.
    pub fn autopilot(&mut self, mut config: AutopilotConfig, cas: bool) -> bool {
        let known = self.state.autopilot();
        if cas && config.modify_index != known.modify_index {
            return false;
        }
        config.create_index = if known.create_index > 0 { known.create_index } else { self.index };
        config.modify_index = self.index;
        self.state.autopilot = Some(Arc::new(config));
        true
    }
}

impl State {
    /// Autopilot's configuration, as stored or as it is by default.
    pub fn autopilot(&self) -> AutopilotConfig {
        self.autopilot.as_deref().cloned().unwrap_or_default()
    }
}
