//! `cargo xtask firmware` and `cargo xtask size`: boards' firmware built, run under QEMU and weighed.
//!
//! Every board is a package of its own below `boards/`. Building one needs a compiler with the board's target; see
//! [`Toolchain`] for the two ways to get one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lexopt::{Arg, prelude::*};

use crate::{
    packages::{self, Package},
    shell::{Result, cargo, root, step},
    toolchain::Toolchain,
};

const USAGE: &str = "\
Usage: cargo xtask firmware <action>

  build [BOARD]    build the firmware of BOARD (default lm3s6965evb) and print the ELF file's path
  run [OPTIONS]    start one board under QEMU and show its log; `run --help` lists the options
  packages         install what building and running need
";

/// The emulator.
pub const QEMU: Package = Package { name: "qemu-system-arm", provides: "qemu-system-arm" };

/// A board and its limits.
struct Board {
    /// Its folder below `boards/`, and its package.
    name: &'static str,
    /// The compiler's name for its processor.
    target: &'static str,
    /// Octets of flash it has, and octets the firmware may fill.
    flash: (u32, u32),
    /// Start and octets of RAM.
    ram: (u32, u32),
    /// Octets of RAM that statics and the deepest stack may fill.
    ram_limit: u32,
    /// Sets of features whose sizes `agent-embedded/README.md` lists: what a row is called, and the features. The first is
    /// what is built by default.
    builds: &'static [(&'static str, &'static str)],
}

const BOARDS: &[Board] = &[Board {
    name: "lm3s6965evb",
    target: "thumbv7m-none-eabi",
    // The last 4 KB of flash hold the settings. The limit stands close above what the firmware has, so that growth is
    // noticed and decided on. That of RAM is what there is: how deep the stack gets differs a little from run to run.
    flash: (256 << 10, 192_000),
    ram: (0x2000_0000, 64 << 10),
    ram_limit: 64 << 10,
    builds: &[
        ("as built by default: log lines, host names", "log,names"),
        ("… and checks by HTTP", "log,names,http"),
        ("… and network coordinates", "log,names,coordinates"),
        ("… but no log lines", "names"),
        ("… but no host names", "log"),
        ("… but neither", ""),
    ],
}];

/// Where the table of sizes is, between two lines that say so.
const TABLE: &str = "agent-embedded/README.md";
const TABLE_BEGIN: &str = "<!-- written by `cargo xtask size --write` -->\n";
const TABLE_END: &str = "<!-- end -->\n";
/// Octets that a row may grow before somebody has to look: less than what one more compiler version changes.
const TOLERANCE: u32 = 512;

/// Runs `cargo xtask firmware`.
///
/// # Errors
/// When a build fails, a tool is missing or an argument is wrong.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    let action = match args.next()? {
        Some(Value(action)) => action.string()?,
        _ => {
            print!("{USAGE}");
            return Ok(());
        }
    };
    match action.as_str() {
        "build" => {
            let board = match args.next()? {
                Some(Value(name)) => find(&name.string()?)?,
                Some(other) => return Err(other.unexpected().into()),
                None => &BOARDS[0],
            };
            println!("{}", build(board)?.display());
            Ok(())
        }
        "run" => {
            packages::ensure(&[QEMU])?;
            build(&BOARDS[0])?;
            // The harness that the tests use, so that a board under the eyes of a person is the board of the tests.
            let mut run = cargo(&["run", "--quiet", "--package", "agent-tests", "--bin", "board", "--"]);
            while let Some(arg) = args.next()? {
                match arg {
                    Arg::Long(name) => run.arg(format!("--{name}")),
                    Arg::Value(value) => run.arg(value),
                    Short(other) => return Err(format!("no option -{other}; try `run --help`").into()),
                };
            }
            step("board", &mut run)
        }
        "packages" => {
            packages::ensure(&[QEMU])?;
            BOARDS.iter().try_for_each(|board| Toolchain::find(board.target).map(drop))
        }
        other => Err(format!("no action {other:?}\n\n{USAGE}").into()),
    }
}

/// Builds the first board's firmware, for tasks that run it.
///
/// # Errors
/// When a tool is missing, or the firmware does not build.
pub fn prepare() -> Result<()> {
    build(&BOARDS[0]).map(drop)
}

/// Runs `cargo xtask size`: one line per board, and an error when one is over its limit or larger than the table in
/// `agent-embedded/README.md` says. `--write` writes that table anew.
///
/// The stack cannot be read off the ELF file. Its depth is what the tests that drive the board hardest have measured;
/// they are run when their number is older than the firmware.
///
/// # Errors
/// When a board does not build, is too large, or its stack cannot be measured.
pub fn size(args: &mut lexopt::Parser) -> Result<()> {
    let mut write = false;
    while let Some(arg) = args.next()? {
        match arg {
            Long("write") => write = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let mut rows = String::from("| firmware of | flash | RAM: statics |\n|---|---|---|\n");
    for board in BOARDS {
        // The default last, so that its file is what stays.
        let mut weighed = Vec::new();
        for &(name, features) in board.builds.iter().rev() {
            let elf = build_with(board, Some(features))?;
            let (flash, statics) =
                weigh(&read(&elf)?, board.ram).ok_or_else(|| format!("{} is damaged", elf.display()))?;
            weighed.push(format!("| {}, {name} | {flash} | {statics} |\n", board.name));
        }
        rows.extend(weighed.into_iter().rev());
    }
    print!("{rows}");
    let path = root().join(TABLE);
    let page = String::from_utf8(read(&path)?).map_err(|_| format!("{TABLE} is not text"))?;
    let (before, table, after) =
        split_page(&page).ok_or_else(|| format!("{TABLE} lacks the lines around its table"))?;
    if write {
        fs::write(&path, format!("{before}{rows}{after}")).map_err(|error| format!("cannot write {TABLE}: {error}"))?;
    } else if let Some(row) = first_grown(table, &rows) {
        return Err(format!(
            "larger than {TABLE} says, by more than {TOLERANCE} octets: {row}\n\
             make it smaller, or run `cargo xtask size --write` and say in the commit what it is for"
        )
        .into());
    }
    weigh_all()
}

/// A page before, inside and behind its table.
fn split_page(page: &str) -> Option<(&str, &str, &str)> {
    let begin = page.find(TABLE_BEGIN)? + TABLE_BEGIN.len();
    let end = begin + page[begin..].find(TABLE_END)?;
    Some((&page[..begin], &page[begin..end], &page[end..]))
}

/// The first row of `new` that has no row of its name in `old`, or a larger number than that by more than the tolerance.
fn first_grown<'t>(old: &str, new: &'t str) -> Option<&'t str> {
    fn cells(row: &str) -> (&str, Vec<u32>) {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        (cells.next().unwrap_or(""), cells.filter_map(|cell| cell.parse().ok()).collect())
    }
    new.lines().find(|row| {
        let (name, sizes) = cells(row);
        let known = old.lines().map(cells).find(|(known, _)| *known == name);
        known.is_none_or(|(_, known)| {
            known.len() != sizes.len() || known.iter().zip(&sizes).any(|(old, new)| *new > old + TOLERANCE)
        })
    })
}

/// What [`size`] does, for `cargo xtask test`.
///
/// # Errors
/// As [`size`].
pub fn weigh_all() -> Result<()> {
    let mut over = Vec::new();
    for board in BOARDS {
        let elf = build(board)?;
        let (flash, statics) = weigh(&read(&elf)?, board.ram).ok_or_else(|| format!("{} is damaged", elf.display()))?;
        let stack = stack(board, &elf)?;
        let (flash_limit, ram_limit) = (board.flash.1, board.ram_limit);
        println!(
            "{}: flash {flash} of {} octets (limit {flash_limit}); RAM {} of {} octets (limit {ram_limit}): \
             .data+.bss {statics}, stack high-water {stack}",
            board.name,
            board.flash.0,
            statics + stack,
            board.ram.1,
        );
        if flash > flash_limit || statics + stack > ram_limit {
            over.push(board.name);
        }
    }
    if over.is_empty() { Ok(()) } else { Err(format!("over the limit: {}", over.join(", ")).into()) }
}

fn find(name: &str) -> Result<&'static Board> {
    BOARDS.iter().find(|board| board.name == name).ok_or_else(|| {
        let names: Vec<&str> = BOARDS.iter().map(|board| board.name).collect();
        format!("no board {name:?}; there are: {}", names.join(", ")).into()
    })
}

/// Builds the firmware and gives the path of its ELF file.
fn build(board: &Board) -> Result<PathBuf> {
    build_with(board, None)
}

/// Builds the firmware with these features instead of the default ones.
fn build_with(board: &Board, features: Option<&str>) -> Result<PathBuf> {
    let folder = root().join("boards").join(board.name);
    let mut build = Toolchain::find(board.target)?.cargo(board.target, &["build", "--release"]);
    if let Some(features) = features {
        build.args(["--no-default-features", "--features", features]);
    }
    // From its own folder, so that cargo reads the board's configuration. RUSTFLAGS would replace its linker script.
    build.current_dir(&folder).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    build.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET");
    step(&format!("firmware of {}", board.name), &mut build)?;
    Ok(folder.join("target").join(board.target).join("release").join(board.name))
}

/// The tests that drive boards hardest: a cluster with encryption, checks and DNS; a push/pull of 200 members; hostile
/// bytes.
const STACK_TESTS: [&str; 3] = ["qemu_join", "qemu_crowd", "qemu_hostile"];

/// Octets of stack that these tests have seen in use; runs them when there is no number newer than the firmware.
fn stack(board: &Board, elf: &Path) -> Result<u32> {
    let note = elf.with_extension("stack");
    let is_new = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if is_new(&note).is_none_or(|measured| is_new(elf).is_some_and(|built| built > measured)) {
        packages::ensure(&[QEMU])?;
        let mut tests = cargo(&["test", "--package", "agent-tests"]);
        step(&format!("stack of {}", board.name), tests.args(STACK_TESTS.iter().flat_map(|test| ["--test", test])))?;
    }
    let text = String::from_utf8(read(&note)?).unwrap_or_default();
    text.trim().parse().map_err(|_| format!("{} holds no number: {text:?}", note.display()).into())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

/// Octets that a 32-bit little-endian ELF file takes in flash and as statics in RAM; `None` when it is cut off.
///
/// Initialised statics count in both. Section header: flags at 8, address at 12, size at 20; type at 4, where 8 has no
/// content in the file.
fn weigh(elf: &[u8], ram: (u32, u32)) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?)));
    const ALLOCATED: u32 = 2;
    const NO_CONTENT: u32 = 8;
    let (table, header, count) = (word(0x20)? as usize, half(0x2e)?, half(0x30)?);
    let (mut flash, mut statics) = (0, 0);
    for at in (0..count).map(|i| table + i * header) {
        let (kind, flags, address, size) = (word(at + 4)?, word(at + 8)?, word(at + 12)?, word(at + 20)?);
        if flags & ALLOCATED == 0 {
            continue;
        }
        if kind != NO_CONTENT {
            flash += size;
        }
        if (ram.0..ram.0 + ram.1).contains(&address) {
            statics += size;
        }
    }
    Some((flash, statics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_notices_growth_alone() {
        let page = format!("a\n{TABLE_BEGIN}| x | flash |\n|---|---|\n| small | 1000 |\n{TABLE_END}b\n");
        let (before, table, after) = split_page(&page).unwrap();
        assert_eq!(format!("{before}{table}{after}"), page);
        let now = |row| first_grown(table, row);
        assert_eq!(now("| x | flash |\n|---|---|\n| small | 900 |\n"), None);
        assert_eq!(now("| small | 1512 |\n"), None);
        assert_eq!(now("| small | 1513 |\n"), Some("| small | 1513 |"));
        assert_eq!(now("| other | 1 |\n"), Some("| other | 1 |"));
        assert_eq!(now("| small | 1 | 1 |\n"), Some("| small | 1 | 1 |"));
    }

    #[test]
    fn weighs_sections_by_where_they_lie() {
        // An ELF file of nothing but section headers: text, data, bss, and a debug section that is not loaded.
        let sections = [(1, 6, 0, 100), (1, 3, 0x2000_0000, 8), (8, 3, 0x2000_0008, 50), (1, 0, 0, 1000)];
        let mut elf = vec![0; 0x34];
        elf[0x20..0x24].copy_from_slice(&0x34u32.to_le_bytes());
        elf[0x2e..0x30].copy_from_slice(&40u16.to_le_bytes());
        elf[0x30..0x32].copy_from_slice(&(sections.len() as u16).to_le_bytes());
        for (kind, flags, address, size) in sections {
            let header: [u32; 10] = [0, kind, flags, address, 0, size, 0, 0, 0, 0];
            elf.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        }
        let ram = BOARDS[0].ram;
        assert_eq!(weigh(&elf, ram), Some((108, 58)));
        for cut in 0..elf.len() - 16 {
            assert_eq!(weigh(&elf[..cut], ram), None, "{cut} octets");
        }
    }
}
