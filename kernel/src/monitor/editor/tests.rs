// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::rtas::testing::config;
use alloc::string::String;
use alloc::vec::Vec;
use penstock_arch::fake::steps;
use proptest::prelude::*;

fn complete(editor: &mut LineEditor, echo: &mut String) {
    let line = String::from(editor.line());
    let completion = Completion::of(&line, &["one", "other", "two"], &["0"]);
    editor.complete(&completion, echo);
}

/// All lines, and the echo.
fn type_in(bytes: &[u8]) -> (Vec<String>, String, LineEditor) {
    let (mut editor, mut lines, mut echo) = (LineEditor::new(), Vec::new(), String::new());
    for byte in bytes {
        match editor.input(*byte, &mut echo) {
            Edit::Line => lines.push(String::from(editor.line())),
            Edit::Cancelled => lines.push(String::from("^C")),
            Edit::Tab => complete(&mut editor, &mut echo),
            Edit::Editing => {}
        }
    }
    (lines, echo, editor)
}

#[test]
fn any_line_end_ends_one_line() {
    assert_eq!(
        type_in(b"a\rb\nc\r\nd\n\n\r\r").0,
        ["a", "b", "c", "d", "", "", ""]
    );
}

#[test]
fn clearing_between_return_and_line_feed_makes_no_empty_line() {
    let (mut editor, mut echo) = (LineEditor::new(), String::new());
    let _ = editor.input(b'x', &mut echo);
    assert_eq!(editor.input(b'\r', &mut echo), Edit::Line);
    editor.clear();
    assert_eq!(editor.line(), "");
    assert_eq!(editor.input(b'\n', &mut echo), Edit::Editing);
    assert_eq!(editor.input(b'\n', &mut echo), Edit::Line);
}

#[test]
fn corrections_are_made_and_shown() {
    let (lines, echo, _) = type_in(b"\x08lost\x7f\x08t\r");
    assert_eq!(lines, ["lot"]);
    assert_eq!(echo, "lost\x08 \x08\x08 \x08t\n");
    assert_eq!(type_in(b"console two\x15list\r").0, ["list"]);
    assert_eq!(type_in(b"console  two  \x17x\r").0, ["console  x"]);
    assert_eq!(type_in(b"a b\x17\x17\x17c\r").0, ["c"]);
    assert_eq!(type_in(b"\x17\x15\r").0, [""]);
}

#[test]
fn interrupt_throws_the_line_away() {
    let (lines, echo, _) = type_in(b"destroy a\x03list\r");
    assert_eq!(lines, ["^C", "list"]);
    assert_eq!(echo, "destroy a^C\nlist\n");
}

#[test]
fn arrow_and_function_keys_are_swallowed() {
    assert_eq!(type_in(b"l\x1b[Ai\x1b[1;5Cs\x1bOPt\x1bx\r").0, ["list"]);
    // An escape that ends in a control character does not hide it.
    assert_eq!(type_in(b"list\x1b\rlist\x1b[\r").0, ["list", "list"]);
}

#[test]
fn the_cursor_moves_and_what_is_typed_goes_there() {
    for (bytes, line) in [
        (&b"lst\x1b[D\x1b[Di\r"[..], "list"),
        (b"lst\x02\x02i\r", "list"),
        (b"ist\x01l\r", "list"),
        (b"ist\x1b[Hl\x1b[F 1\r", "list 1"),
        (b"ist\x1b[1~l\x1b[4~ 1\r", "list 1"),
        (b"ist\x1b[7~l\x1b[8~ 1\r", "list 1"),
        (b"ist\x1bOHl\x1bOF 1\r", "list 1"),
        (b"l\x01\x06\x06\x06ist\r", "list"),
        (b"xlist\x01\x1b[3~\r", "list"),
        (b"xlist\x01\x04\r", "list"),
        (b"lixst\x02\x02\x7f\r", "list"),
        (b"listen\x02\x02\x0b\x05s\r", "lists"),
        (b"stats two\x02\x02\x02\x15list \r", "list two"),
        (b"console one\x02\x02\x02\x17list \r", "list one"),
        // Modifiers change nothing, and other numbers are no keys.
        (b"lst\x1b[1;5D\x1b[1;2Di\r", "list"),
        (
            b"list\x1b[2~\x1b[33~\x1b[300~\x1b[;3~\x1b[?3~\x1b[ 1~\r",
            "list",
        ),
        (b"list\x1b[C\x1b[D\x1b[D\x1b[C\x1b[C\x1b[Cs\r", "lists"),
        // At the ends there is nothing to take away.
        (b"list\x04\x1b[3~\x0b\x01\x7f\x17\x15\r", "list"),
    ] {
        assert_eq!(type_in(bytes).0, [line], "{}", bytes.escape_ascii());
    }
    let (_, echo, _) = type_in(b"lst\x02\x02i\x01\x04\x05");
    assert_eq!(
        echo,
        "lst\x08\x08ist\x08\x08\x08\x08ist \x08\x08\x08\x08ist"
    );
}

#[test]
fn tab_completes_what_is_sure() {
    for (bytes, line) in [
        (&b"lis\t\r"[..], "list "),
        (b"con\ttw\t\r", "console two "),
        (b"console t\tx\r", "console two x"),
        (b"suspend o\t\r", "suspend o"),
        (b"suspend on\t\r", "suspend one "),
        (b"hpt two re\t\r", "hpt two reload "),
        (b"nothing\t\r", "nothing"),
        // In the middle of a line, of what is before the cursor.
        (b"su two\x02\x02\x02\x02s\t\r", "suspend two"),
        (b"two\x01re\t\x08\r", "rtwo"),
        (b"two\x01sus\t\r", "suspend two"),
    ] {
        assert_eq!(type_in(bytes).0, [line], "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_second_tab_lists_what_there_is() {
    let (_, echo, _) = type_in(b"suspend o\t");
    assert_eq!(echo, "suspend o\x07");
    let (lines, echo, editor) = type_in(b"suspend o\t\t");
    assert_eq!(echo, "suspend o\x07\none  other\npenstock> suspend o");
    assert_eq!((lines.len(), editor.line()), (0, "suspend o"));
    // A key between, or a word that has grown, makes it a first one.
    assert_eq!(
        type_in(b"suspend o\t\x08o\t").1,
        "suspend o\x07\x08 \x08o\x07"
    );
    assert_eq!(
        type_in(b"s\tt\t\t").1,
        "s\x07ta\x07\nstart  stats\npenstock> sta"
    );
    // Where there is nothing, it says no more.
    assert_eq!(type_in(b"help \t\t").1, "help \x07\x07");
    // The cursor stays where it was.
    let (_, echo, _) = type_in(b"o1\x02\x01suspend \x06\t\t");
    assert!(
        echo.ends_with("\nonepenstock> suspend o1\x08")
            || echo.ends_with("other\npenstock> suspend o1\x08")
    );
}

#[test]
fn a_completed_word_that_does_not_fit_is_cut_off() {
    let bytes = [&[b' '; 126][..], b"hel\t\r"].concat();
    let (lines, echo, _) = type_in(&bytes);
    assert_eq!(lines[0].len(), 128);
    assert!(lines[0].ends_with(" he"));
    assert!(echo.contains('\x07'));
}

#[test]
fn arrows_bring_lines_back() {
    let (lines, echo, _) = type_in(b"list\rstats\rstats\r\r\x1b[A\x1b[A2\r\x1b[A\r");
    // The second `stats` and the empty line are not kept.
    assert_eq!(lines, ["list", "stats", "stats", "", "list2", "list2"]);
    let rubbed = ["\x08", " ", "\x08"].map(|c| c.repeat(5)).concat();
    assert!(echo.ends_with(&alloc::format!("stats{rubbed}list2\nlist2\n")));
    // Beyond the first there is nothing; below the last an empty line.
    assert_eq!(
        type_in(b"a\rb\r\x1b[A\x1b[A\x1b[A\x1b[A\r").0,
        ["a", "b", "a"]
    );
    assert_eq!(type_in(b"a\rb\r\x1b[A\x1b[A\x1b[B\r").0, ["a", "b", "b"]);
    assert_eq!(type_in(b"a\rx\x1bOA\x1bOB\r").0, ["a", ""]);
    assert_eq!(
        type_in(b"x\x1b[A\x1b[B\r").0,
        ["x"],
        "nothing to bring back"
    );
    // ^C begins at the last line again.
    assert_eq!(
        type_in(b"a\rb\r\x1b[A\x1b[A\x03\x1b[A\r").0,
        ["a", "b", "^C", "b"]
    );
}

#[test]
fn sixteen_lines_are_remembered() {
    let mut bytes = Vec::new();
    for number in 0..20 {
        bytes.extend(alloc::format!("{number}\r").into_bytes());
    }
    bytes.extend(b"\x1b[A".repeat(30));
    bytes.push(b'\r');
    assert_eq!(type_in(&bytes).0.last().unwrap(), "4");
    let longest = [&[b'x'; 128][..], b"\r\x1b[A\r"].concat();
    assert_eq!(type_in(&longest).0[1].len(), 128);
}

#[test]
fn a_line_has_a_greatest_length() {
    let (lines, echo, _) = type_in(&[&[b'x'; 130][..], b"\r"].concat());
    assert_eq!(lines[0].len(), 128);
    assert!(echo.ends_with("x\x07\x07\n"));
}

#[test]
fn bytes_that_are_not_text_are_ignored() {
    assert_eq!(type_in(b"l\0\x07i\xff\xc3\xa4st\x0c\r").0, ["list"]);
}

#[test]
fn redraw_shows_what_was_typed_so_far() {
    let (_, _, editor) = type_in(b"lis");
    let mut out = String::new();
    editor.redraw(&mut out).unwrap();
    assert_eq!(out, "penstock> lis");
    let (_, _, editor) = type_in(b"list\r");
    let mut out = String::new();
    editor.redraw(&mut out).unwrap();
    assert_eq!(out, "penstock> ");
}

/// What a terminal shows of the last line of what it is sent, and where its cursor is.
#[derive(Default)]
struct Terminal {
    line: String,
    column: usize,
}

impl Terminal {
    /// Whether it can be shown.
    fn show(&mut self, text: &str) -> bool {
        for c in text.chars() {
            match c {
                '\n' => *self = Self::default(),
                '\x07' => {}
                '\x08' if self.column == 0 => return false,
                '\x08' => self.column -= 1,
                _ => {
                    let mut cells: Vec<char> = self.line.chars().collect();
                    cells.truncate(self.column);
                    let rest = self.line.chars().skip(self.column + 1);
                    self.line = cells.into_iter().chain([c]).chain(rest).collect();
                    self.column += 1;
                }
            }
        }
        true
    }
}

proptest! {
    #![proptest_config(config())]

    /// Any bytes: a line is short printable ASCII, and the echo, drawn on a terminal, shows
    /// exactly it, and where the cursor is.
    #[test]
    fn random_bytes_never_confuse_line_and_picture(bytes in proptest::collection::vec(
        prop_oneof![any::<u8>(), b' '..=b'~', 0_u8..0x20, b'a'..=b'z',
            Just(RETURN), Just(ESC), Just(b'['), Just(b'~'), Just(b'\t'),
            prop::sample::select(&b"ABCDHF13478;?O "[..])], 0..steps(400))) {
        let (mut editor, mut terminal) = (LineEditor::new(), Terminal::default());
        for byte in bytes {
            let mut echo = String::new();
            let edit = editor.input(byte, &mut echo);
            if edit == Edit::Tab {
                complete(&mut editor, &mut echo);
            }
            prop_assert!(terminal.show(&echo));
            let right: String = editor.text.right().collect();
            let line = editor.line();
            prop_assert!(line.len() + right.len() <= LINE_BYTES);
            prop_assert!(line.bytes().chain(right.bytes()).all(|b| (b' '..=b'~').contains(&b)));
            if matches!(edit, Edit::Editing | Edit::Tab) {
                // It may have been drawn anew, behind the prompt.
                let shown = terminal.line.trim_end_matches(' ').len();
                let after = terminal.line.get(terminal.column..).unwrap();
                let before = terminal.line.get(..terminal.column).unwrap();
                let prompted = alloc::format!("{PROMPT}{line}");
                prop_assert!(before == line || before == prompted);
                prop_assert!(after.starts_with(&right));
                prop_assert!(shown <= terminal.column + right.len());
            } else {
                prop_assert!(right.is_empty());
            }
        }
    }
}
