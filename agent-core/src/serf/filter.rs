//! Tag filters of queries (gossip spec §9.5): regular expressions in Go's language, which a device cannot hold.

/// Says whether `value` matches an unanchored regular expression; `None` when it cannot say.
pub type MatchTag = fn(expr: &str, value: &str) -> Option<bool>;

/// Matches what tag filters mostly are: texts with `.*` between them, `^` and `$` at their ends, `|` between several. An
/// expression with any other operator is beyond it.
pub fn match_simple(expr: &str, value: &str) -> Option<bool> {
    let alternatives = || expr.as_bytes().split(|&octet| octet == b'|');
    let simple = alternatives().all(|one| is_simple(parts(one).1));
    // `.` is no line's end.
    (simple && !value.contains('\n')).then(|| alternatives().any(|one| match_one(one, value.as_bytes())))
}

/// An alternative: anchored in front, its texts, anchored behind.
fn parts(one: &[u8]) -> (bool, &[u8], bool) {
    let (one, front) = one.strip_prefix(b"^").map_or((one, false), |rest| (rest, true));
    let (one, behind) = one.strip_suffix(b"$").map_or((one, false), |rest| (rest, true));
    (front, one, behind)
}

/// Whether `.*` is the only operator.
fn is_simple(mut texts: &[u8]) -> bool {
    while let Some((octet, rest)) = texts.split_first() {
        texts = match (octet, rest) {
            (b'.', [b'*', rest @ ..]) => rest,
            (operator, _) if b".^$*+?()[]{}\\".contains(operator) => return false,
            (_, rest) => rest,
        };
    }
    true
}

fn match_one(one: &[u8], value: &[u8]) -> bool {
    let (mut anchored, mut texts, behind) = parts(one);
    let mut rest = value;
    // Each text at its first place leaves the most for those behind it.
    while let Some(len) = find(texts, b".*") {
        let text = &texts[..len];
        let after = match anchored {
            true => rest.strip_prefix(text),
            false => find(rest, text).and_then(|at| rest.get(at + len..)),
        };
        let Some(after) = after else { return false };
        (rest, texts, anchored) = (after, &texts[len + 2..], false);
    }
    match (anchored, behind) {
        (true, true) => rest == texts,
        (true, false) => rest.starts_with(texts),
        (false, true) => rest.ends_with(texts),
        (false, false) => find(rest, texts).is_some(),
    }
}

/// Where `part` begins in `text` for the first time.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    (0..=text.len().checked_sub(part.len())?).find(|&at| text[at..].starts_with(part))
}

/// Whether `part` is somewhere in `text`. The standard library's search is for long texts, and long itself.
pub(crate) fn has(text: &str, part: &str) -> bool {
    find(text.as_bytes(), part.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::match_simple;

    #[test]
    fn simple_expressions_match_as_regular_expressions_do() {
        let values = ["", "a", "ab", "web", "web1", "xweb", "db", "db-web-1", "a.*b", "abab", "aXb", "ba"];
        let texts = ["", "a", "web", "ab", "b", "-"];
        let mut exprs = std::vec::Vec::new();
        for (front, behind) in [("", ""), ("^", ""), ("", "$"), ("^", "$")] {
            for first in texts {
                exprs.push(std::format!("{front}{first}{behind}"));
                for second in texts {
                    exprs.push(std::format!("{front}{first}.*{second}{behind}"));
                    exprs.push(std::format!("{front}{first}|{second}{behind}"));
                    exprs.push(std::format!("{front}{first}.*{second}.*{first}{behind}"));
                }
            }
        }
        for expr in exprs {
            let regex = regex::Regex::new(&expr).unwrap();
            for value in values {
                assert_eq!(match_simple(&expr, value), Some(regex.is_match(value)), "{expr} on {value}");
            }
        }
    }

    #[test]
    fn other_expressions_are_left_alone() {
        for expr in ["a+", "[a-z]", "(a|b)", "a.b", r"\d", "a*", "x{2}", "a^b", "a$b", "(?i)a", "^^a"] {
            assert_eq!(match_simple(expr, "a"), None, "{expr}");
        }
        assert_eq!(match_simple("a.*b", "a\nb"), None);
    }
}
