//! Loss of every kind of packet on a machine's loopback interface: a program for the kernel's express data path that
//! throws dice. It needs root in its own network namespace, `ip`, and nothing that would have to be compiled.

use std::{path::Path, process::Command};

use crate::Result;

/// Loses packets of this network namespace's loopback interface, UDP and TCP alike, each with this probability; 0 ends it.
///
/// # Errors
///
/// When `ip` is missing, or the kernel does not let us.
pub fn set(per_cent: u8) -> Result<()> {
    let run = |arguments: &[&str]| -> Result<()> {
        let output = Command::new("ip").args(["link", "set", "dev", "lo"]).args(arguments).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("ip {arguments:?}: {error}").into()) }
    };
    run(&["up"])?;
    run(&["xdpgeneric", "off"])?;
    if per_cent == 0 {
        return Ok(());
    }
    let file = tempfile::NamedTempFile::new()?;
    write(file.path(), &program(per_cent))?;
    let path = file.path().to_str().ok_or("a temporary file with a plain name")?;
    run(&["xdpgeneric", "object", path, "section", "xdp"])
}

/// The dice (instruction set: RFC 9669; helper 7 gives a random number; verdict 1 drops, 2 passes).
fn program(per_cent: u8) -> Vec<u8> {
    let [a, b, c, d] = ((u64::from(per_cent) << 32) / 100).min(u32::MAX.into()).to_le_bytes()[..4] else {
        return vec![];
    };
    [
        [0x85, 0x00, 0, 0, 7, 0, 0, 0], // r0 = random
        [0xbf, 0x01, 0, 0, 0, 0, 0, 0], // r1 = r0
        [0xb7, 0x00, 0, 0, 1, 0, 0, 0], // r0 = drop
        [0xa6, 0x01, 1, 0, a, b, c, d], // if w1 < …: skip the next
        [0xb7, 0x00, 0, 0, 2, 0, 0, 0], // r0 = pass
        [0x95, 0x00, 0, 0, 0, 0, 0, 0], // exit
    ]
    .concat()
}

/// Name, type, flags, content, linked section, first global symbol, alignment, size of an entry.
type Section<'a> = (u32, u32, u64, &'a [u8], u32, u32, u64, u64);

/// An object file (ELF, machine 247) with the program in section `xdp`, as `ip` wants it.
fn write(path: &Path, program: &[u8]) -> Result<()> {
    const NAMES: &[u8] = b"\0xdp\0license\0.symtab\0.strtab\0drop\0";
    let word = |number: u64| number.to_le_bytes().to_vec();
    let two = |low: u32, high: u32| [low.to_le_bytes(), high.to_le_bytes()].concat();
    // The symbol of the program: global, a function, in section 1.
    let symbol = [two(30, 0x0001_0012), word(0), word(program.len() as u64)].concat();
    let symbols = [vec![0; 24], symbol].concat();
    let sections: [Section<'_>; 5] = [
        (0, 0, 0, &[], 0, 0, 0, 0),
        (1, 1, 6, program, 0, 0, 8, 0),
        (5, 1, 3, b"GPL\0", 0, 0, 1, 0),
        (13, 2, 0, &symbols, 4, 1, 8, 24),
        (21, 3, 0, NAMES, 0, 0, 1, 0),
    ];
    let (mut body, mut table) = (vec![0; 64], Vec::new());
    for (name, kind, flags, content, link, info, alignment, entry) in sections {
        body.resize(body.len().next_multiple_of(8), 0);
        let (at, len) = (word(body.len() as u64), word(content.len() as u64));
        table.extend([two(name, kind), word(flags), word(0), at, len, two(link, info), word(alignment), word(entry)]);
        body.extend(content);
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let table_at = body.len() as u64;
    body.extend(table.concat());
    let head: [u8; 16] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    let halves: Vec<u8> = [64u16, 0, 0, 64, 5, 4].iter().flat_map(|half| half.to_le_bytes()).collect();
    let header = [&head[..], &two(0x00f7_0001, 1), &word(0), &word(0), &word(table_at), &[0; 4], &halves].concat();
    body[..64].copy_from_slice(&header);
    Ok(std::fs::write(path, body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_fall_as_often_as_told() {
        let program = program(25);
        assert_eq!(program.len(), 6 * 8);
        assert_eq!(program[28..32], 0x4000_0000u32.to_le_bytes());
    }
}
