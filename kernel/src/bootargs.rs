// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's own command line: words of the form `penstock.NAME=VALUE`.
//!
//! Other words are left alone, since firmware may put its own there. A `penstock.` word that is not
//! known, or whose value is not, is kept as a complaint for the log: a hypervisor that does not boot
//! for a typing error helps nobody.

use log::LevelFilter;

/// Whether speculation mitigations are in force on the way into a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mitigations {
    /// As firmware's `fw-features` say.
    Auto,
    /// All that the processor has.
    On,
    /// None.
    Off,
}

/// Whether somebody sits at the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attendance {
    /// A terminal: without partitions the monitor waits for commands.
    Interactive,
    /// None: without partitions the machine is powered off.
    Unattended,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Partitions.
    Partitions,
    /// The self tests, then power-off.
    SelfTest,
    /// Dying on purpose, so that the last words can be tested.
    Die(Death),
}

/// Ways to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// A Rust panic.
    Panic,
    /// An illegal instruction.
    IllegalInstruction,
    /// A load from where there is no memory: a machine check.
    StrayLoad,
}

/// The hypervisor's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootArgs<'a> {
    /// `penstock.exit`: the token that authenticates the last line, see `machine::finish`.
    pub exit_token: Option<&'a str>,
    /// `penstock.log`: off, error, warn, info, debug, trace.
    pub log: LevelFilter,
    /// `penstock.interactive`: 0 or 1.
    pub attendance: Attendance,
    /// `penstock.mitigations`: auto, on, off.
    pub mitigations: Mitigations,
    /// `penstock.selftest`: 0, 1, panic, illegal-instruction, stray-load.
    pub mode: Mode,
    /// The first word that was not understood.
    pub not_understood: Option<&'a str>,
}

impl Default for BootArgs<'_> {
    fn default() -> Self {
        Self {
            exit_token: None,
            log: LevelFilter::Info,
            attendance: Attendance::Unattended,
            mitigations: Mitigations::Auto,
            mode: Mode::Partitions,
            not_understood: None,
        }
    }
}

impl<'a> BootArgs<'a> {
    /// Reads the words of `/chosen/bootargs`.
    #[must_use]
    pub fn parse(line: &'a str) -> Self {
        let mut args = Self::default();
        for word in line.split_ascii_whitespace() {
            let Some(option) = word.strip_prefix("penstock.") else {
                continue;
            };
            if args.apply(option).is_none() && args.not_understood.is_none() {
                args.not_understood = Some(word);
            }
        }
        args
    }

    fn apply(&mut self, option: &'a str) -> Option<()> {
        let (name, value) = option.split_once('=')?;
        match name {
            "exit" => {
                let valid =
                    (1..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_hexdigit());
                self.exit_token = Some(valid.then_some(value)?);
            }
            "log" => self.log = value.parse().ok()?,
            "interactive" => {
                self.attendance = if switch(value)? {
                    Attendance::Interactive
                } else {
                    Attendance::Unattended
                };
            }
            "mitigations" => {
                self.mitigations = match value {
                    "auto" => Mitigations::Auto,
                    "on" => Mitigations::On,
                    "off" => Mitigations::Off,
                    _ => return None,
                };
            }
            "selftest" => {
                self.mode = match value {
                    "0" => Mode::Partitions,
                    "1" => Mode::SelfTest,
                    "panic" => Mode::Die(Death::Panic),
                    "illegal-instruction" => Mode::Die(Death::IllegalInstruction),
                    "stray-load" => Mode::Die(Death::StrayLoad),
                    _ => return None,
                };
            }
            _ => return None,
        }
        Some(())
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_means_defaults() {
        assert_eq!(BootArgs::parse(""), BootArgs::default());
        assert_eq!(BootArgs::parse("quiet console=hvc0"), BootArgs::default());
    }

    #[test]
    fn all_words() {
        let args = BootArgs::parse(
            "penstock.exit=00fF penstock.log=debug  penstock.interactive=1 \
             penstock.mitigations=on penstock.selftest=1",
        );
        assert_eq!(args.exit_token, Some("00fF"));
        assert_eq!(args.log, LevelFilter::Debug);
        assert_eq!(args.attendance, Attendance::Interactive);
        assert_eq!(args.mitigations, Mitigations::On);
        assert_eq!(args.mode, Mode::SelfTest);
        assert_eq!(args.not_understood, None);
    }

    #[test]
    fn mistakes_are_kept_for_the_log_and_change_nothing() {
        for wrong in [
            "penstock.exit=xyz",
            "penstock.exit=",
            "penstock.log=loud",
            "penstock.interactive=yes",
            "penstock.mitigations",
            "penstock.colour=blue",
        ] {
            let args = BootArgs::parse(wrong);
            assert_eq!(args.not_understood, Some(wrong));
            assert_eq!(
                BootArgs {
                    not_understood: None,
                    ..args
                },
                BootArgs::default()
            );
        }
    }
}
