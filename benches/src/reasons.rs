//! Why targets are missed: written by hand, in `benches/reasons.md`.

use std::fmt::Write as _;

use crate::section::Target;

/// What a heading looks like; its text is a target's, letter by letter.
const HEADING: &str = "### ";

/// The reasons by target. Headings with no line between them share the text under the last one.
pub(crate) struct Reasons<'a> {
    groups: Vec<(Vec<&'a str>, String)>,
}

impl<'a> Reasons<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let mut groups: Vec<(Vec<&'a str>, String)> = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix(HEADING), groups.last_mut()) {
                (Some(name), Some((names, reason))) if reason.is_empty() => {
                    names.push(name.trim());
                }
                (Some(name), _) => groups.push((vec![name.trim()], String::new())),
                (None, Some((_, reason))) => {
                    let _ = writeln!(reason, "{line}");
                }
                // Before the first heading: for whoever writes the file.
                (None, None) => {}
            }
        }
        Self { groups }
    }

    /// The missed ones that no reason is given for.
    pub(crate) fn unexplained(&self, missed: &[&'a Target]) -> Vec<&'a str> {
        let explained = |what: &&str| {
            self.groups
                .iter()
                .any(|(names, reason)| names.contains(what) && !reason.trim().is_empty())
        };
        missed.iter().map(|target| &*target.what).filter(|what| !explained(what)).collect()
    }

    /// The reasons of these, in the order of the file; then those that have none.
    pub(crate) fn of_missed(&self, missed: &[&'a Target]) -> String {
        let mut text = String::new();
        for (names, reason) in self.groups.iter().filter(|(_, reason)| !reason.trim().is_empty()) {
            let names: Vec<_> = names
                .iter()
                .filter(|name| missed.iter().any(|target| target.what == **name))
                .collect();
            for name in &names {
                let _ = writeln!(text, "{HEADING}{name}\n");
            }
            if !names.is_empty() {
                let _ = writeln!(text, "{}\n", reason.trim());
            }
        }
        for name in self.unexplained(missed) {
            let _ = writeln!(text, "{HEADING}{name}\n\n**No reason is given yet.**\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(what: &str) -> Target {
        Target::at_most(what, 1.0, 2.0, "ns")
    }

    #[test]
    fn headings_with_nothing_between_them_share_a_reason() {
        let (one, two, met) = (missed("one"), missed("two, n = 10"), missed("another"));
        let reasons = Reasons::of("How to.\n\n### one\n### two, n = 10\n### three\n\nBecause.\n");
        assert_eq!(reasons.unexplained(&[&one, &two]), [""; 0]);
        assert_eq!(reasons.of_missed(&[&one, &two]), "### one\n\n### two, n = 10\n\nBecause.\n\n");
        assert_eq!(reasons.unexplained(&[&met]), ["another"]);
    }

    #[test]
    fn a_heading_without_a_text_is_no_reason() {
        let one = missed("one");
        let reasons = Reasons::of("### one\n\n### two\n\nBecause.\n");
        assert_eq!(reasons.unexplained(&[&one]), ["one"]);
        assert!(reasons.of_missed(&[&one]).contains("No reason is given yet"));
        assert_eq!(Reasons::of("").unexplained(&[&one]), ["one"]);
    }
}
