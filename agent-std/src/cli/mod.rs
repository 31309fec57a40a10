//! The command line (cli spec). One file per command; this one finds the command and turns its result into an exit code.
//!
//! Consul's rules: flags are Go's ([`goflags`]), they end at the first plain argument, unknown commands give 127, any
//! other problem 1. Clap holds the one description of every flag; usage texts, completion and man pages come from it.

pub mod client;
pub mod context;
pub mod flags;
pub mod goflags;
pub mod product;
pub mod table;
pub mod usage;

pub mod agent;
mod catalog;
mod event;
mod force_leave;
mod generate;
mod info;
mod join;
mod keygen;
mod keyring;
mod kv;
mod leave;
mod maint;
mod members;
mod operator;
mod reload;
mod rtt;
mod services;
mod snapshot;
mod validate;
mod version;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use context::{Context, Failure, Outcome};
use product::Product;

/// What a command is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Only has subcommands.
    Group,
    /// Does something.
    Leaf {
        /// Adds its flags.
        flags: fn(Command) -> Command,
        /// Runs it.
        run: fn(&mut Context<'_>, &ArgMatches) -> Outcome,
    },
}

/// One command of the table.
pub struct Spec {
    /// Words that call it, e.g. `kv put`.
    pub path: &'static str,
    /// One line for lists.
    pub synopsis: &'static str,
    /// What follows the path in the usage line.
    pub usage: &'static str,
    /// Paragraphs of the description; one that starts with `$` is an example.
    pub about: &'static str,
    /// Group or leaf.
    pub kind: Kind,
    /// Not one of Consul's commands.
    pub ours: bool,
}

impl Spec {
    /// The clap description of this command alone.
    pub fn command(&self) -> Command {
        let name = self.path.rsplit(' ').next().unwrap_or(self.path);
        let command = Command::new(name)
            .about(Product::Lictor.fill(self.synopsis))
            .long_about(Product::Lictor.fill(self.about))
            .disable_help_flag(true)
            .disable_version_flag(true);
        match self.kind {
            Kind::Group => command,
            Kind::Leaf { flags, .. } => flags(command).arg(flags::arguments()),
        }
    }
}

/// Commands of Consul that we know of but do not have yet: refused by name, never as if unknown.
const MISSING: &[&str] =
    &["acl", "config", "connect", "debug", "exec", "intention", "lock", "login", "logout", "monitor", "tls", "watch"];

/// All commands.
pub fn commands() -> &'static [Spec] {
    const {
        &[
            agent::SPEC,
            catalog::GROUP,
            catalog::datacenters::SPEC,
            catalog::nodes::SPEC,
            catalog::services::SPEC,
            event::SPEC,
            force_leave::SPEC,
            generate::COMPLETION,
            generate::MAN,
            info::SPEC,
            join::SPEC,
            keygen::SPEC,
            keyring::SPEC,
            kv::GROUP,
            kv::delete::SPEC,
            kv::export::SPEC,
            kv::get::SPEC,
            kv::import::SPEC,
            kv::put::SPEC,
            leave::SPEC,
            maint::SPEC,
            members::SPEC,
            operator::GROUP,
            operator::autopilot::GET,
            operator::autopilot::GROUP,
            operator::autopilot::SET,
            operator::raft::GROUP,
            operator::raft::LIST,
            operator::recover::SPEC,
            operator::raft::REMOVE,
            reload::SPEC,
            rtt::SPEC,
            services::DEREGISTER,
            services::GROUP,
            services::REGISTER,
            snapshot::GROUP,
            snapshot::INSPECT,
            snapshot::RESTORE,
            snapshot::SAVE,
            validate::SPEC,
            version::SPEC,
        ]
    }
}

/// The command with exactly these words.
pub fn find(path: &str) -> Option<&'static Spec> {
    commands().iter().find(|spec| spec.path == path)
}

/// The process: arguments, streams and environment of the system.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let product = Product::from_program(&args.next().unwrap_or_default());
    let args: Vec<String> = args.collect();
    let mut context = Context {
        product,
        input: &mut std::io::stdin(),
        out: &mut std::io::stdout(),
        err: &mut std::io::stderr(),
        env: &|name| std::env::var(name).ok(),
    };
    ExitCode::from(run(&mut context, &args))
}

/// Runs the command that `args` (without the program name) ask for and gives its exit code.
pub fn run(context: &mut Context<'_>, args: &[String]) -> u8 {
    let before_dashes: Vec<&str> = args.iter().map(String::as_str).take_while(|&arg| arg != "--").collect();
    if before_dashes.iter().any(|arg| matches!(*arg, "-v" | "-version" | "--version")) {
        let outcome = version::print(context);
        return finish(context, find("version"), outcome);
    }
    let help = before_dashes.iter().any(|arg| matches!(*arg, "-h" | "-help" | "--help"));
    let skipped = args.iter().take_while(|arg| arg.starts_with('-')).count();
    let Some((spec, rest)) = longest(&args[skipped..]) else {
        let text = usage::overview(context.product);
        return match args.get(skipped) {
            None if help => {
                let _ = context.out.write_all(text.as_bytes());
                0
            }
            Some(word) if MISSING.contains(&word.as_str()) => {
                context.complain(&format!("{word:?} is not implemented yet by lictor."));
                1
            }
            _ => {
                let _ = context.err.write_all(text.as_bytes());
                127
            }
        };
    };
    if help {
        let text = usage::of(context.product, spec);
        let _ = context.out.write_all(text.as_bytes());
        return 0;
    }
    if skipped > 0 {
        context.complain("Invalid flags before the subcommand. If these flags are for");
        context.complain("the subcommand, please put them after the subcommand.\n");
        let text = usage::of(context.product, spec);
        let _ = context.err.write_all(text.as_bytes());
        return 1;
    }
    let Kind::Leaf { run, .. } = spec.kind else {
        let text = usage::of(context.product, spec);
        let _ = context.err.write_all(text.as_bytes());
        return 1;
    };
    let command = spec.command();
    let matches = match goflags::to_clap(&command, rest) {
        Ok(line) => {
            let line = std::iter::once(spec.path.to_owned()).chain(line);
            command.clone().try_get_matches_from(line).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let matches = match matches {
        Ok(matches) => matches,
        Err(text) => {
            context.complain(&text);
            let _ = context.err.write_all(usage::plain(context.product, &command).as_bytes());
            return 1;
        }
    };
    let outcome = run(context, &matches);
    finish(context, Some(spec), outcome)
}

/// The command with the most words that `args` begin with, and the arguments after it.
fn longest(args: &[String]) -> Option<(&'static Spec, &[String])> {
    let words = args.iter().take_while(|arg| !arg.starts_with('-') && !arg.contains(' ')).count();
    (1..=words).rev().find_map(|count| Some((find(&args[..count].join(" "))?, &args[count..])))
}

fn finish(context: &mut Context<'_>, spec: Option<&Spec>, outcome: Outcome) -> u8 {
    let _ = context.out.flush();
    match outcome {
        Ok(()) => 0,
        Err(Failure::Code(code)) => code,
        Err(Failure::Text(text)) => {
            context.complain(&text);
            1
        }
        Err(Failure::Usage(text)) => {
            context.complain(&text);
            if let Some(spec) = spec {
                context.complain(&format!("\n{}", usage::of(context.product, spec).trim_end()));
            }
            1
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
