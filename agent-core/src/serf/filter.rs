//! Tag filters of queries (gossip spec §9.5): regular expressions in Go's language, which a device cannot hold.

/// Says whether `value` matches an unanchored regular expression; `None` when it cannot say.
pub type MatchTag = fn(expr: &str, value: &str) -> Option<bool>;

/// Matches what tag filters mostly are: texts with `.*` between them, `^` and `$` at their ends, `|` between several. An
/// expression with any other operator is beyond it.
pub fn match_simple(expr: &str, value: &str) -> Option<bool> {
    let simple = expr.split('|').all(|one| {
        let (_, texts, _) = parts(one);
        texts.split(".*").all(|text| !text.contains(['.', '^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '}', '\\']))
    });
    // `.` is no line's end.
    (simple && !value.contains('\n')).then(|| expr.split('|').any(|one| match_one(one, value)))
}

/// An alternative: anchored in front, its texts, anchored behind.
fn parts(one: &str) -> (bool, &str, bool) {
    let (one, front) = one.strip_prefix('^').map_or((one, false), |rest| (rest, true));
    let (one, behind) = one.strip_suffix('$').map_or((one, false), |rest| (rest, true));
    (front, one, behind)
}

fn match_one(one: &str, value: &str) -> bool {
    let (front, texts, behind) = parts(one);
    let (texts, last) = match texts.rsplit_once(".*") {
        Some((texts, last)) if behind => (texts, last),
        None if behind => return if front { value == texts } else { value.ends_with(texts) },
        _ => (texts, ""),
    };
    let (mut rest, mut texts) = (value, texts.split(".*"));
    if front {
        match rest.strip_prefix(texts.next().unwrap_or("")) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    // Each text at its first place leaves the most for those behind it.
    for text in texts {
        match rest.split_once(text) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
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
