//! What Linux says of a process (`proc(5)`).

use std::fs;

use crate::Result;

/// A process's use of the machine at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Seconds of processor time since its start, in user mode and in the kernel.
    pub cpu: f64,
    /// Resident memory in MiB, pages of the program's file included.
    pub resident: f64,
    /// Resident memory in MiB that nobody else uses.
    pub private: f64,
    /// Threads.
    pub threads: f64,
    /// Switches of threads since its start, of those that live.
    pub switches: f64,
}

impl Usage {
    /// Reads the usage of process `id`.
    ///
    /// # Errors
    ///
    /// When it is gone, or the system has no `/proc` of this form.
    pub fn of(id: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let mib = |text: &str, key: &str| field(text, key).map(|kib| kib / 1024.0);
        let mut switches = 0.0;
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
            switches += field(&status, "voluntary_ctxt_switches")? + field(&status, "nonvoluntary_ctxt_switches")?;
        }
        Ok(Usage {
            cpu: cpu(&fs::read_to_string(format!("/proc/{id}/stat"))?).ok_or("no processor time in /proc/ID/stat")?,
            resident: mib(&status, "VmRSS")?,
            private: mib(&rollup, "Private_Clean")? + mib(&rollup, "Private_Dirty")?,
            threads: field(&status, "Threads")?,
            switches,
        })
    }
}

/// User and system time: the 14th and 15th field, counted behind the name, which may hold spaces and brackets.
fn cpu(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// The number behind `key:`.
fn field(text: &str, key: &str) -> Result<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("no {key} in /proc").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_usage_is_read() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0.5 && usage.private <= usage.resident && usage.threads >= 1.0, "{usage:?}");
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(cpu(stat), Some(42.0 / ticks));
    }
}
