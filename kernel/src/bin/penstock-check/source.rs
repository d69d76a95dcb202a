// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The line of the source that a node or a property of a partition tree comes from.
//!
//! `dtc --annotate` writes a tree as source again, one node or property a line, each with where it was
//! read: `memory = <0x00 0x20000000>; /* two.dts:17 */`. Images are written out too, as three
//! characters a byte, so this is done only where there is an error to tell of.

use penstock_kernel::config::Place;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file and a line of it, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file, as `dtc` names it: relative to the folder of the one that it was given.
    pub file: PathBuf,
    /// The line.
    pub number: u32,
}

/// Where `place` is in `source`; `None` where `dtc` does not tell, as where it is too old.
pub fn find(source: &Path, place: &Place<'_>) -> Option<Line> {
    let mut dtc = Command::new("dtc")
        .args(["-q", "-I", "dts", "-O", "dts", "--annotate"])
        .arg(source)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let lines = BufReader::new(dtc.stdout.take()?).split(b'\n');
    let lines = lines.map_while(Result::ok);
    let found = find_in(lines, place);
    // It may have more to write, which nobody reads.
    let _ = dtc.kill();
    let _ = dtc.wait();
    let found = found?;
    Some(Line {
        file: source.parent()?.join(found.file),
        ..found
    })
}

/// The same in what `dtc` has written. A property that is not there is where its node is.
fn find_in(lines: impl Iterator<Item = Vec<u8>>, place: &Place<'_>) -> Option<Line> {
    // The path of the node that the line is in, and the line of the node that is looked for.
    let mut path: Vec<String> = Vec::new();
    let mut node = None;
    for line in lines {
        match Item::of(&String::from_utf8_lossy(&line)) {
            Item::Begin(name, line) => {
                path.push(name);
                if path_of(&path) == place.node {
                    if place.property.is_none() {
                        return line;
                    }
                    node = line;
                }
            }
            Item::End => {
                if path_of(&path) == place.node {
                    return node;
                }
                path.pop()?;
            }
            Item::Property(name, line) => {
                if place.property == Some(&name) && path_of(&path) == place.node {
                    return line.or(node);
                }
            }
            Item::Other => {}
        }
    }
    None
}

fn path_of(names: &[String]) -> String {
    match names {
        [] | [_] => String::from("/"),
        [_, below @ ..] => below
            .iter()
            .fold(String::new(), |path, name| path + "/" + name),
    }
}

/// What a line of an annotated tree is.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Begin(String, Option<Line>),
    End,
    Property(String, Option<Line>),
    Other,
}

impl Item {
    fn of(text: &str) -> Self {
        let mut text = text.trim_start();
        if text.starts_with("};") {
            return Self::End;
        }
        // Labels come first.
        while let Some((label, rest)) = text.split_once(": ") {
            if !label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                break;
            }
            text = rest;
        }
        let Some(length) = text.find([' ', ';']) else {
            return Self::Other;
        };
        let (name, rest) = text.split_at(length);
        let (name, line) = (String::from(name), annotation(rest));
        if rest.starts_with(" {") {
            Self::Begin(name, line)
        } else if rest.starts_with(" = ") || rest.starts_with(';') {
            Self::Property(name, line)
        } else {
            Self::Other
        }
    }
}

/// `/* FILE:LINE */` at the end of a line. Newer ones may say columns too, and further places.
fn annotation(text: &str) -> Option<Line> {
    let (_, text) = text.trim_end().strip_suffix(" */")?.rsplit_once("/* ")?;
    let first = text.split(", ").next()?;
    let mut parts = first.split(':');
    let file = PathBuf::from(parts.next()?);
    let number = parts.next()?.parse().ok()?;
    Some(Line { file, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of dtc 1.6.1.
    const ANNOTATED: &str = r#"/dts-v1/;

/ { /* two.dts:3 */
	compatible = "penstock,partitions-v1"; /* two.dts:4 */
	#address-cells = <0x02>; /* two.dts:5 */

	images { /* two.dts:8 */

		l: linux: linux { /* two.dts:9 */
			data = [7f 45 4c 46 00]; /* more/images.dtsi:2 */
			phandle = <0x01>;
		}; /* two.dts:9 */
	}; /* two.dts:12 */

	partitions { /* two.dts:14 */

		debian { /* two.dts:15 */
			memory = <0x00 0x20000000>; /* two.dts:16 */
			bootargs = "a: {", "}; /* b:1 */"; /* two.dts:17 */
			strict-flags; /* two.dts:19 */
		}; /* two.dts:20 */

		b { /* two.dts:21 */
			memory = <0x01 0x1000000>; /* two.dts:22 */
			both = <0x01>; /* two.dts:23:4-23:20, /tmp/other.dts:1:2-1:3 */
		}; /* two.dts:24 */
	}; /* two.dts:25 */
}; /* two.dts:26 */
"#;

    fn line_in(text: &str, node: &str, property: Option<&str>) -> Option<String> {
        let place = Place {
            node: String::from(node),
            property,
        };
        let lines = text.lines().map(|line| line.as_bytes().to_vec());
        find_in(lines, &place).map(|line| format!("{}:{}", line.file.display(), line.number))
    }

    #[test]
    fn nodes_and_properties_have_lines() {
        for (node, property, line) in [
            ("/", None, Some("two.dts:3")),
            ("/", Some("compatible"), Some("two.dts:4")),
            ("/", Some("#address-cells"), Some("two.dts:5")),
            ("/images/linux", None, Some("two.dts:9")),
            ("/images/linux", Some("data"), Some("more/images.dtsi:2")),
            ("/partitions", None, Some("two.dts:14")),
            ("/partitions/debian", None, Some("two.dts:15")),
            ("/partitions/debian", Some("memory"), Some("two.dts:16")),
            ("/partitions/debian", Some("bootargs"), Some("two.dts:17")),
            (
                "/partitions/debian",
                Some("strict-flags"),
                Some("two.dts:19"),
            ),
            ("/partitions/b", Some("memory"), Some("two.dts:22")),
            ("/partitions/b", Some("both"), Some("two.dts:23")),
            // Not there, or of dtc's own: the node.
            ("/partitions/debian", Some("vcpus"), Some("two.dts:15")),
            ("/images/linux", Some("phandle"), Some("two.dts:9")),
            ("/", Some("model"), Some("two.dts:3")),
            ("/partitions/c", Some("memory"), None),
        ] {
            let found = line_in(ANNOTATED, node, property);
            assert_eq!(found.as_deref(), line, "{node} {property:?}");
        }
    }

    #[test]
    fn a_tree_without_annotations_has_no_lines() {
        let plain: String = ANNOTATED
            .lines()
            .map(|line| line.split(" /* two").next().unwrap_or(line).to_owned() + "\n")
            .collect();
        assert_eq!(line_in(&plain, "/partitions/debian", Some("memory")), None);
        assert_eq!(line_in(&plain, "/partitions", None), None);
        assert_eq!(line_in("", "/", None), None);
        assert_eq!(line_in("};\n};\n", "/", None), None);
    }
}
