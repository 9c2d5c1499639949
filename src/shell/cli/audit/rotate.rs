//! `keyward audit key` and `keyward audit rotate-key`: on the files, while no daemon runs.

use std::sync::Arc;

use super::args::RotateKey;
use crate::domain::time::DAY;
use crate::shell::cli::console::{Exit, Failure};
use crate::shell::cli::{Done, Run, client};
use crate::shell::config::Settings;
use crate::shell::wire;

impl Run {
    pub(super) fn audit_key(&self) -> Done {
        let keys = self.log_keys(&self.own_settings()?)?;
        keys.iter().for_each(|key| self.console.out(key));
        Ok(Exit::Ok)
    }

    pub(super) fn audit_rotate_key(&self, told: &RotateKey) -> Done {
        let settings = self.own_settings()?;
        let keys = self.log_keys(&settings)?;
        let (console, days) = (self.console, told.overlap_days);
        if told.plan {
            if told.end_overlap {
                console.out(match keys.get(1) {
                    Some(old) => format!("would destroy the old key {old} and say so in the log"),
                    None => "there is no overlap: nothing would be done".to_owned(),
                });
                return Ok(Exit::Ok);
            }
            console.out(format!("old   {}", keys.first().map_or("", String::as_str)));
            console.out("new   made from 32 random bytes, under the same name");
            console.out(format!("both  sign for {days} days; then the old private key is destroyed"));
            console.out("an entry names both; the checkpoint over it is signed by both");
            return Ok(Exit::Ok);
        }
        let failed = |error: wire::WireError| {
            Failure::new(Exit::Failed, error.to_string(), "stop the daemon first: the log has one writer")
        };
        if told.end_overlap {
            let was = wire::end_log_key_overlap(&settings).map_err(failed)?;
            console.out(if was { "the old key is destroyed" } else { "there is no overlap: nothing was done" });
            return Ok(Exit::Ok);
        }
        let by: Arc<str> = Arc::from(format!("uid:{}", rustix::process::getuid().as_raw()));
        let done = wire::rotate_log_key(&settings, by, DAY.saturating_mul(u32::from(days))).map_err(failed)?;
        console.out(format!("old   {}", done.old));
        console.out(format!("new   {}", done.new));
        console.out(format!("from  size {}", done.from_size));
        console.out(format!("both  sign until {}", done.until));
        console.note("give the new key to the witnesses and to whoever verifies the log before that");
        Ok(Exit::Ok)
    }

    fn own_settings(&self) -> Result<Settings, Failure> {
        let path = client::config_path(&self.common)?;
        client::settings(&path, &self.common).map_err(|error| {
            self.console.note(error.report(self.console.report_colour()));
            Failure::new(
                Exit::BadConfig,
                "the configuration names the state directory, and it cannot be used",
                "mend it",
            )
        })
    }

    fn log_keys(&self, settings: &Settings) -> Result<Vec<String>, Failure> {
        wire::log_keys(&settings.state_dir).map_err(|e| {
            Failure::new(Exit::Failed, e.to_string(), "run it as the daemon's user, after the first start")
        })
    }
}
