//! `completion` and `man`: what packagers ask for, drawn from the same description as everything else.

use clap::{ArgMatches, Command};
use clap_complete::Shell;

use super::{
    Kind, Spec, commands,
    context::{Context, Outcome, single},
    flags,
    product::Product,
};

pub(super) const COMPLETION: Spec = Spec {
    path: "completion",
    synopsis: "Prints a shell completion script",
    usage: "SHELL",
    about: "Prints a completion script for bash, elvish, fish, powershell or zsh.\n\n\
            $ {cmd} completion bash > /etc/bash_completion.d/{cmd}",
    kind: Kind::Leaf { flags: |command| command, run: completion },
    ours: true,
};

pub(super) const MAN: Spec = Spec {
    path: "man",
    synopsis: "Writes manual pages into a directory",
    usage: "DIRECTORY",
    about: "Writes one manual page per command into a directory, which must exist.",
    kind: Kind::Leaf { flags: |command| command, run: man },
    ours: true,
};

/// All commands as one clap tree.
fn tree(product: Product) -> Command {
    let mut root = Command::new(product.command())
        .about("One agent for service discovery, health checking and key/value storage")
        .version(product.version());
    for spec in commands().iter().filter(|spec| !spec.path.contains(' ')) {
        let mut command = spec.command();
        for child in commands() {
            if child.path.rsplit_once(' ').is_some_and(|(parent, _)| parent == spec.path) {
                command = command.subcommand(child.command());
            }
        }
        root = root.subcommand(command);
    }
    root
}

fn completion(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let name = single(&flags::values(matches, "args"), "Missing SHELL argument")?;
    let shell: Shell = name
        .parse()
        .map_err(|_| format!("Unknown shell {name:?}: choose one of bash, elvish, fish, powershell, zsh"))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree(context.product), context.product.command(), &mut script);
    let _ = context.out.write_all(&script);
    Ok(())
}

fn man(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let directory = single(&flags::values(matches, "args"), "Missing DIRECTORY argument")?;
    clap_mangen::generate_to(tree(context.product), &directory)
        .map_err(|error| format!("Cannot write manual pages into {directory:?}: {error}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::run_with;

    #[test]
    fn every_shell_gets_a_script_with_every_command() {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let ran = run_with(Product::Lictor, &["completion", shell], &[], "");
            assert_eq!(ran.code, 0);
            for word in ["members", "modify-index"] {
                assert!(ran.out.contains(word), "{shell} {word}");
            }
        }
        assert_eq!(run_with(Product::Lictor, &["completion", "csh"], &[], "").code, 1);
    }

    #[test]
    fn manual_pages_are_written() {
        let directory = std::env::temp_dir().join(format!("lictor-man-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let ran = run_with(Product::Lictor, &["man", directory.to_str().unwrap()], &[], "");
        let page = std::fs::read_to_string(directory.join("lictor-members.1"));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(page.unwrap().contains("detailed"));
    }
}
