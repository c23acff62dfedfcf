//! The document: `benchmarks.md` and its plots, from what the rows found.

use std::fmt::Write as _;
use std::path::Path;

use crate::error::Result;
use crate::measure::short;
use crate::reasons::Reasons;
use crate::section::{Section, Table, Target};
use crate::{machine, plot, rows};

/// What the figures depend on, beside the machine.
const VERSIONS: &[&str] =
    &["arc-swap", "h2", "hyper", "pingora-load-balancing", "tokio", "tonic", "tower", "volo"];

/// A row, and what it found.
type Found<'a> = (&'a rows::Row, Section);

/// Writes the document from the sections in `results`. A missed target without a reason is said in the
/// document, and an error once it is written.
pub(crate) fn write(results: &Path, docs: &Path, reasons: &Path) -> Result<()> {
    let mut sections: Vec<Found<'_>> = Vec::new();
    for row in rows::ALL {
        match std::fs::read(results.join(format!("{}.json", row.name))) {
            Ok(bytes) => sections.push((row, serde_json::from_slice(&bytes)?)),
            Err(_) => eprintln!("render: no results for {}", row.name),
        }
    }
    if sections.is_empty() {
        return Err("there are no results".into());
    }
    if let Some((row, _)) = sections.iter().find(|(_, section)| section.brief) {
        return Err(format!("{} comes from a brief run", row.name).into());
    }
    let text = std::fs::read_to_string(reasons)
        .map_err(|error| format!("{}: {error}", reasons.display()))?;
    let known = Reasons::of(&text);
    let plots = docs.join("benchmarks");
    std::fs::create_dir_all(&plots)?;
    for (_, section) in &sections {
        for picture in &section.plots {
            plot::draw(picture, &plots.join(format!("{}.svg", picture.name)))?;
        }
        for picture in &section.bars {
            plot::draw_bars(picture, &plots.join(format!("{}.svg", picture.name)))?;
        }
    }
    std::fs::write(docs.join("benchmarks.md"), document(&sections, &known))?;
    let unexplained = known.unexplained(&missed(&sections));
    if unexplained.is_empty() {
        return Ok(());
    }
    let (file, names) = (reasons.display(), unexplained.join("\n  "));
    Err(format!("written, but {file} gives no reason for a missed target:\n  {names}").into())
}

fn document(sections: &[Found<'_>], reasons: &Reasons<'_>) -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str(&machines(sections));
    text.push_str(&versions(sections));
    text.push_str(COMPARED);
    text.push_str(&beside(sections));
    text.push_str(&targets(sections.iter().flat_map(|(_, section)| &section.targets)));
    let missed = missed(sections);
    if !missed.is_empty() {
        let _ = writeln!(text, "\n## Targets that are missed, and why\n");
        text.push_str(&reasons.of_missed(&missed));
    }
    for (row, section) in sections {
        text.push_str(&markdown(row.title, section));
    }
    text
}

fn missed<'a>(sections: &'a [Found<'_>]) -> Vec<&'a Target> {
    let all = sections.iter().flat_map(|(_, section)| &section.targets);
    all.filter(|target| !target.met).collect()
}

/// Where and when: once if all sections were made together, else for each.
fn machines(sections: &[Found<'_>]) -> String {
    let head = ["section", "date", "processor", "cores", "system", "rustc", "commit"];
    let made = |(row, section): &Found<'_>| {
        let m = section.made_on.clone()?;
        let cores = m.cores.to_string();
        let row = row.name.to_owned();
        Some((row, [m.date, m.processor, cores, m.system, m.rustc, m.commit], m.load))
    };
    let made: Vec<_> = sections.iter().filter_map(made).collect();
    let together = made.windows(2).all(|two| two[0].1 == two[1].1);
    let mut table = if together {
        Table::new("", head.into_iter().skip(1))
    } else {
        Table::new("These sections were not made together.", head)
    };
    for (row, cells, _) in &made {
        if !together {
            table.push([row].into_iter().chain(cells).cloned());
        } else if table.rows.is_empty() {
            table.push(cells.clone());
        }
    }
    let loads: Vec<_> = made.iter().map(|(row, _, load)| format!("{row} {load}")).collect();
    let loads = loads.join(", ");
    format!(
        "{}\nLoad average as each section ended, the section included: {loads}.\n",
        rendered(&table)
    )
}

fn versions(sections: &[Found<'_>]) -> String {
    let mut all = machine::versions(VERSIONS);
    for version in sections.iter().flat_map(|(_, section)| &section.versions) {
        if !all.contains(version) {
            all.push(version.clone());
        }
    }
    format!("\nVersions: {}.\n", all.join(", "))
}

/// What a reader wants to know first.
fn beside(sections: &[Found<'_>]) -> String {
    let head = ["", "what", "ours", "", "peer", "", "peer : ours"];
    let mut table = Table::new("", head);
    for (row, section) in sections {
        for line in &section.beside {
            let figure =
                |value: f64| format!("{} {}", short(value), line.unit).trim_end().to_owned();
            table.push([
                row.name.to_owned(),
                line.what.clone(),
                line.ours.clone(),
                figure(line.of_ours),
                line.peer.clone(),
                figure(line.of_peer),
                format!("**{}x**", short(line.ratio)),
            ]);
        }
    }
    if table.rows.is_empty() { String::new() } else { format!("{BESIDE}{}", rendered(&table)) }
}

fn targets<'a>(targets: impl Iterator<Item = &'a Target>) -> String {
    let mut table = Table::new("", ["target", "goal", "measured", "met"]);
    for target in targets {
        let met = if target.met { "yes" } else { "**no**" };
        table.push([target.what.as_str(), &target.goal, &target.measured, met]);
    }
    if table.rows.is_empty() {
        String::new()
    } else {
        format!("\n## Targets\n{}", rendered(&table))
    }
}

/// A section as Markdown.
pub(crate) fn markdown(title: &str, section: &Section) -> String {
    let mut text = format!("\n## {title}\n\n{}\n", section.intro.trim());
    for table in &section.tables {
        text.push_str(&rendered(table));
    }
    let plots = section.plots.iter().map(|plot| (&plot.title, &plot.name));
    for (title, name) in plots.chain(section.bars.iter().map(|bars| (&bars.title, &bars.name))) {
        let _ = writeln!(text, "\n![{title}](benchmarks/{name}.svg)");
    }
    for skipped in &section.skipped {
        let _ = writeln!(text, "\nNot measured: {skipped}");
    }
    text
}

fn rendered(table: &Table) -> String {
    let mut text = match (table.folded, &*table.caption) {
        (true, caption) => format!("\n<details><summary>{caption}</summary>\n\n"),
        (false, "") => "\n".to_owned(),
        (false, caption) => format!("\n{caption}\n\n"),
    };
    let _ = writeln!(text, "| {} |", table.head.join(" | "));
    let columns: Vec<_> = (0..table.head.len())
        .map(|at| if holds_figures(table, at) { "---:" } else { "---" })
        .collect();
    let _ = writeln!(text, "|{}|", columns.join("|"));
    for row in &table.rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    if table.folded {
        text.push_str("\n</details>\n");
    }
    text
}

/// Then it is aligned to the right. The first column holds names, even where they are sizes.
fn holds_figures(table: &Table, column: usize) -> bool {
    let mut cells = table.rows.iter().filter_map(|row| row.get(column));
    let is_figure = |cell: &String| {
        let text = cell.trim_start_matches(['*', '<', '>', '=', ' ', '-']);
        matches!(cell.as_str(), "" | "cannot") || text.starts_with(|c: char| c.is_ascii_digit())
    };
    column > 0 && cells.all(is_figure)
}

const INTRODUCTION: &str = "# Benchmarks

Made by one command, `./scripts/bench`, which writes this file and its plots; do not edit. It builds everything in
release, fetches what the peers need, runs all rows one after the other on an otherwise idle machine, and takes
about half an hour. `./scripts/bench --only pick` makes one row again. The code is in [`benches/`](../benches).

Contenders of a table are measured in the same run and in interleaved rounds: each of them for a moment, in an order
that turns, so that what else the machine does falls on all of them. A figure is the median over the rounds, with
the quartiles in parentheses where there is room. **Trust the ratios more than the nanoseconds.** What is counted,
instructions and allocations, depends on the compiler and not on the machine's load.
";

const COMPARED: &str = "
What is compared: pingora-load-balancing, tower's `Balance` (alone and behind its `Buffer`), volo and bare
arc-swap loops in Rust; go-kit and grpc-go by a Go program that measures itself when it is asked to; tonic's
`Channel::balance_channel` and hyper's HTTP/2 sender for a whole call; tonic alone for the build. Each peer is called
the way its users do, and each section says what the peers are spared or charged that ours is not.

What is not: peers and ours over the same registry, for in Rust none of them reads etcd or Consul itself (what a
registry takes alone is given instead); networks, for servers are on loopback and on the same cores as their
client; TLS; other processors. Peers in Go are those that Debian packages, not the newest ones. \"Cannot\" in a table
is a peer that panics or takes minutes to come up at that size.
";

const BESIDE: &str = "
## Ours beside each peer

A ratio above 1 is in our favour, one below 1 in the peer's; for a registry it is what its own part has of the
whole. The name of a balancer alone is the choice from a prepared set; `Balanced::pick` is all that a call needs, the
call counted and its latency measured, which a peer's round robin or random leaves undone. Conditions, quartiles
and all other sizes are in the sections.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Beside;

    fn table() -> Table {
        let mut table = Table::new("Costs", ["what", "ns"]);
        table.push(["this", "12"]);
        table
    }

    #[test]
    fn a_section_becomes_a_heading_tables_and_what_was_skipped() {
        let section = Section {
            intro: "Why.".to_owned(),
            tables: vec![table()],
            skipped: vec!["go: no toolchain".to_owned()],
            ..Section::default()
        };
        let expected = "\n## Title\n\nWhy.\n\nCosts\n\n| what | ns |\n|---|---:|\n| this | 12 |\n\
                        \nNot measured: go: no toolchain\n";
        assert_eq!(markdown("Title", &section), expected);
    }

    #[test]
    fn a_folded_table_shows_its_caption_only() {
        let expected = "\n<details><summary>Costs</summary>\n\n| what | ns |\n|---|---:|\n| this | 12 |\n\
                        \n</details>\n";
        assert_eq!(rendered(&table().folded()), expected);
    }

    #[test]
    fn the_document_says_ours_beside_peers_and_why_a_target_is_missed() {
        let section = Section {
            beside: vec![Beside::new("a pick", ("ours", 4.0), ("theirs", 20.0), "ns")],
            targets: vec![
                Target::at_most("fast", 1.0, 4.0, "ns"),
                Target::at_most("small", 8.0, 4.0, "bytes"),
            ],
            ..Section::default()
        };
        let reasons = Reasons::of("### fast\n\nFor a reason.\n\n### small\n\nNot asked.\n");
        let text = document(&[(&rows::ALL[0], section)], &reasons);
        assert!(text.contains("| pick | a pick | ours | 4.00 ns | theirs | 20.0 ns | **5.00x** |"));
        assert!(text.contains("| fast | <= 1 ns | 4.00 ns | **no** |"), "{text}");
        assert!(text.contains("## Targets that are missed, and why\n\n### fast\n\nFor a reason."));
        assert!(!text.contains("Not asked"), "the reason of a target that is met");
    }
}
