//! Licence expressions of packages: names joined by `OR`, `AND`, `WITH` and parentheses.

/// Whether an expression can be met by licences that `allowed` knows.
///
/// The old form `MIT/Apache-2.0` means `OR`; `X WITH Y` is one name.
pub(super) fn holds(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, at: 0, allowed };
    let held = reader.either();
    held && reader.at == words.len()
}

struct Reader<'w> {
    words: &'w [&'w str],
    at: usize,
    allowed: &'w dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    fn peek(&self) -> &str {
        self.words.get(self.at).copied().unwrap_or_default()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().eq_ignore_ascii_case(word);
        self.at += usize::from(found);
        found
    }

    fn either(&mut self) -> bool {
        let mut held = self.both();
        while self.take("OR") {
            held |= self.both();
        }
        held
    }

    fn both(&mut self) -> bool {
        let mut held = self.one();
        while self.take("AND") {
            held &= self.one();
        }
        held
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let held = self.either();
            return self.take(")") && held;
        }
        let mut name = self.peek().to_owned();
        self.at += 1;
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.peek());
            self.at += 1;
        }
        (self.allowed)(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn expressions_are_judged_as_written() {
        let allowed = |name: &str| {
            matches!(name, "MIT" | "Apache-2.0" | "Unicode-3.0" | "Apache-2.0 WITH LLVM-exception")
        };
        let cases = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND ISC", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-3.0 WITH LLVM-exception", false),
            ("(MIT", false),
            ("", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(holds(expression, &allowed), expected, "{expression}");
        }
    }
}
