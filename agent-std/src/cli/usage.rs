//! Usage texts in Consul's two layouts, drawn from the same clap description that parses, completes and makes man pages.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::{
    Kind, Spec, commands,
    flags::{HTTP, OWN},
    goflags,
    product::Product,
};

/// Help texts are wrapped at this column, the width of Consul's own.
const WIDTH: usize = 72;

/// The list of commands, shown without a command or with an unknown one.
pub fn overview(product: Product) -> String {
    let mut text = product.fill("Usage: {cmd} [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n");
    list(&mut text, product, "");
    text.push('\n');
    text
}

/// The full usage of one command: synopsis, description, then its flags or subcommands.
pub fn of(product: Product, spec: &Spec) -> String {
    let mut text = format!("Usage: {} {}", product.command(), spec.path);
    if !spec.usage.is_empty() {
        let _ = write!(text, " {}", spec.usage);
    }
    text.push('\n');
    for paragraph in spec.about.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        text.push('\n');
        let paragraph = product.fill(paragraph);
        // Examples are kept as they are, prose is wrapped.
        match paragraph.strip_prefix('$') {
            Some(_) => drop(writeln!(text, "      {paragraph}")),
            None => wrap(&mut text, &paragraph, 2),
        }
    }
    match spec.kind {
        Kind::Group => {
            text.push_str("\nSubcommands:\n");
            list(&mut text, product, spec.path);
        }
        Kind::Leaf { .. } => {
            let command = spec.command();
            for heading in [HTTP, OWN] {
                section(&mut text, product, &command, heading);
            }
        }
    }
    text
}

/// Go's plain listing of all flags, printed after a flag error.
pub fn plain(product: Product, command: &Command) -> String {
    let mut text = "Usage:\n".to_owned();
    for flag in sorted(product, command, None) {
        let _ = write!(text, "  -{}", flag.get_id());
        if !goflags::is_switch(flag) {
            let _ = write!(text, " {}", goflags::kind(flag));
        }
        let _ = writeln!(text, "\n    \t{}", help(flag));
    }
    text
}

/// The commands directly below `parent`, aligned.
fn list(text: &mut String, product: Product, parent: &str) {
    let below = |spec: &&Spec| match spec.path.rsplit_once(' ') {
        Some((head, _)) => head == parent,
        None => parent.is_empty(),
    };
    let shown = |spec: &&Spec| below(spec) && (product == Product::Lictor || !spec.ours);
    let mut specs: Vec<&Spec> = commands().iter().filter(shown).collect();
    specs.sort_by_key(|spec| spec.path);
    let last = |spec: &Spec| spec.path.rsplit(' ').next().unwrap_or(spec.path);
    let width = specs.iter().map(|spec| last(spec).len()).max().unwrap_or(0);
    for spec in specs {
        let _ = writeln!(text, "    {:width$}    {}", last(spec), product.fill(spec.synopsis));
    }
}

fn section(text: &mut String, product: Product, command: &Command, heading: &str) {
    for (index, flag) in sorted(product, command, Some(heading)).into_iter().enumerate() {
        if index == 0 {
            let _ = writeln!(text, "\n{heading}");
        }
        let _ = write!(text, "\n  -{}", flag.get_id());
        if !goflags::is_switch(flag) {
            let _ = write!(text, "=<{}>", goflags::kind(flag));
        }
        text.push('\n');
        wrap(text, &help(flag), 5);
    }
}

/// The flags of `command` below `heading` (or all), by name; ours only under our own name.
fn sorted<'a>(product: Product, command: &'a Command, heading: Option<&str>) -> Vec<&'a Arg> {
    let mut flags: Vec<&Arg> = command
        .get_arguments()
        .filter(|flag| flag.get_long().is_some())
        .filter(|flag| heading.is_none() || flag.get_help_heading() == heading)
        .filter(|flag| product == Product::Lictor || !flag.is_hide_short_help_set())
        .collect();
    flags.sort_by_key(|flag| flag.get_id().as_str().to_owned());
    flags
}

fn help(flag: &Arg) -> String {
    flag.get_help().map(ToString::to_string).unwrap_or_default()
}

/// Appends `prose` in lines of at most [`WIDTH`] columns, each indented by `indent` blanks.
fn wrap(text: &mut String, prose: &str, indent: usize) {
    let mut column = 0;
    for word in prose.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            text.push('\n');
            column = 0;
        }
        if column == 0 {
            text.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::find;

    #[test]
    fn the_overview_aligns_and_hides_what_is_ours() {
        let consul = overview(Product::Consul);
        assert!(
            consul.starts_with("Usage: consul [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n")
        );
        assert!(consul.contains("\n    keygen         Generates"), "{consul}");
        assert!(!consul.contains("    completion"));
        assert!(overview(Product::Lictor).contains("    completion     "));
        assert!(!consul.contains("    kv get"), "only the first level");
    }

    #[test]
    fn a_leaf_lists_its_flags_by_group() {
        let text = of(Product::Consul, find("kv put").unwrap());
        assert!(text.starts_with("Usage: consul kv put [options] KEY [DATA]\n\n  "));
        let (http, own) = text.split_once("\nCommand Options\n").unwrap();
        assert!(http.contains("\nHTTP API Options\n\n  -ca-file=<value>\n     "));
        assert!(own.contains("\n  -modify-index=<uint>\n") && own.contains("\n  -cas\n"));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn a_group_lists_its_subcommands() {
        let text = of(Product::Consul, find("kv").unwrap());
        assert!(text.contains("\nSubcommands:\n    delete    "), "{text}");
    }

    #[test]
    fn go_form_has_no_groups() {
        let text = plain(Product::Consul, &find("members").unwrap().command());
        assert!(text.starts_with("Usage:\n  -ca-file value\n    \t"));
        assert!(text.contains("\n  -detailed\n    \t") && !text.contains("-format"));
        assert!(plain(Product::Lictor, &find("members").unwrap().command()).contains("-format"));
    }
}
