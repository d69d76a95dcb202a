// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host command `hptstream`, from its command line to its exit status.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Three records: 64K pages at 2 and 3 and no more up to 9, one bolted 16M page of the real mode
/// area at 10, one 4K page in its secondary group at 0x20; all else left out.
const ENTRIES: [[u64; 2]; 4] = [
    [0x4000_1ace_5400_0105, 0x0000_0000_0123_1196],
    [0x4000_1ace_5400_0105, 0x0000_0000_0124_1196],
    [0x4001_ffff_ff00_0015, 0x0000_0000_0000_0190],
    [0x000f_1234_5678_9083, 0xb000_0007_6543_2f17],
];
const HEADERS: [(u32, u16, u16); 3] = [(2, 2, 6), (10, 1, 0), (0x20, 1, 0)];

fn stream(big: bool) -> Vec<u8> {
    let mut entries = ENTRIES.iter();
    let mut bytes = Vec::new();
    for (index, n_valid, n_invalid) in HEADERS {
        if big {
            bytes.extend(index.to_be_bytes());
            bytes.extend(n_valid.to_be_bytes());
            bytes.extend(n_invalid.to_be_bytes());
        } else {
            bytes.extend(index.to_le_bytes());
            bytes.extend(n_valid.to_le_bytes());
            bytes.extend(n_invalid.to_le_bytes());
        }
        for [v, r] in entries.by_ref().take(usize::from(n_valid)) {
            bytes.extend(v.to_be_bytes());
            bytes.extend(r.to_be_bytes());
        }
    }
    bytes
}

/// In QEMU's frames, of a table of 16 MiB.
fn framed() -> Vec<u8> {
    [&[0, 0, 0, 24, 0, 0, 0, 0], &*stream(true), &[0; 8]].concat()
}

/// A file of this test.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hptstream-{name}"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hptstream"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What a good run prints.
fn printed(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let output = run(arguments, input);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    output.stdout
}

fn text(arguments: &[&str], input: &[u8]) -> String {
    String::from_utf8(printed(arguments, input)).unwrap()
}

/// The one line that a bad run has to say.
fn refused(arguments: &[&str], input: &[u8], status: i32) -> String {
    let output = run(arguments, input);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(output.stdout.is_empty());
    message
}

#[test]
fn help_is_given_to_whoever_asks() {
    for arguments in [&["--help"][..], &["-h"], &["help"], &["dump", "--help"]] {
        let help = text(arguments, b"");
        assert!(help.starts_with("usage: hptstream dump "), "{help}");
        for word in ["verify", "stats", "diff", "convert", "--holes", "left-out"] {
            assert!(help.contains(word));
        }
        assert!(help.lines().all(|line| line.len() <= 100));
    }
}

#[test]
fn wrong_command_lines_end_with_2() {
    for (arguments, reason) in [
        (&[][..], "a command is missing"),
        (&["show", "x"], "no command \"show\""),
        (&["dump"], "dump takes 1 files, not 0"),
        (&["diff", "-"], "diff takes 2 files, not 1"),
        (&["diff", "-", "-"], "only one stream"),
        (
            &["dump", "--format", "me", "-"],
            "--format does not take \"me\"",
        ),
        (
            &["dump", "--order", "17", "-"],
            "--order does not take \"17\"",
        ),
        (&["dump", "--order", "37", "-"], "--order does not take"),
        (&["dump", "-", "--order"], "--order does not take \"\""),
        (&["dump", "--from", "le", "-"], "no option --from here"),
        (&["dump", "--order", "18", "--order", "18", "-"], "twice"),
        (&["convert", "--to", "le", "-", "-"], "--from is missing"),
        (&["convert", "--from", "le", "-", "-"], "--to is missing"),
        (
            &["convert", "--from", "le", "--to", "qemu", "-", "-"],
            "say it with --order",
        ),
        (&["verify", "/nonexistent/stream"], "/nonexistent/stream: "),
        (&["verify", "/"], "/: "),
    ] {
        let message = refused(arguments, &stream(false), 2);
        assert!(message.contains(reason), "{arguments:?}: {message}");
    }
}

#[test]
fn bad_streams_end_with_1() {
    let good = stream(false);
    for (arguments, bytes, reason) in [
        (
            &["verify", "-"][..],
            &good[..good.len() - 1],
            "standard input: offset 0x40: entry 0x20: cut short",
        ),
        (
            &["dump", "-"],
            &good[..good.len() - 20],
            "offset 0x40: cut short: 4 bytes of a header's 8",
        ),
        (
            &["stats", "--format", "be", "--order", "18", "-"],
            &good,
            "offset 0x0: entry 0x2000000: ",
        ),
        (
            &["convert", "--from", "qemu", "--to", "le", "-", "-"],
            &good,
            "another size, order 33554432",
        ),
        (
            &["verify", "--format", "qemu", "--order", "20", "-"],
            &framed(),
            "another size, order 24",
        ),
        (
            &["verify", "--format", "qemu", "-"],
            &[255; 4],
            "no hashed page table",
        ),
        (
            &["verify", "--format", "qemu", "-"],
            &[],
            "offset 0x0: cut short",
        ),
        (&["verify", "-"], &[0; 8], "counts no entry"),
    ] {
        let message = refused(arguments, bytes, 1);
        assert!(message.contains(reason), "{arguments:?}: {message}");
    }
}

#[test]
fn dump_shows_every_record_and_entry() {
    let expected = "\
0x00000000 record from 0x2: 2 valid, 6 invalid
0x00000008   0x2: v=0x40001ace54000105 r=0x0000000001231196 1T vsid=0x1ace54 64K/64K \
page=0x1230000 wimg=0x2 key=0 pp=010 no-execute R C
0x00000018   0x3: v=0x40001ace54000105 r=0x0000000001241196 1T vsid=0x1ace54 64K/64K \
page=0x1240000 wimg=0x2 key=0 pp=010 no-execute R C
             0x4 + 6 invalid
0x00000028 record from 0xa: 1 valid, 0 invalid
0x00000030   0xa: v=0x4001ffffff000015 r=0x0000000000000190 1T vsid=0x1ffffff 16M/16M \
page=0x0 wimg=0x2 key=0 pp=000 bolted R C
0x00000040 record from 0x20: 1 valid, 0 invalid
0x00000048   0x20: v=0x000f123456789083 r=0xb000000765432f17 256M vsid=0xf123456789 4K/4K \
page=0x765432000 wimg=0x2 key=31 pp=111 secondary no-execute R
";
    assert_eq!(text(&["dump", "-"], &stream(false)), expected);
    assert_eq!(
        text(&["dump", "--format", "be", "-"], &stream(true)),
        expected
    );
    // A hole as large as the table is a record like any other.
    let hole = [0, 0, 0, 0, 0, 0, 0, 0x40];
    let expected = "\
0x00000000 record from 0x0: 0 valid, 16384 invalid
             0x0 + 16384 invalid
";
    assert_eq!(text(&["dump", "-"], &hole), expected);
}

#[test]
fn verify_says_what_is_good() {
    let path = file("verify", &stream(false));
    let path = path.to_str().unwrap();
    assert_eq!(
        text(&["verify", path], b""),
        format!("{path}: good: 88 bytes, 3 records, 4 valid, 6 invalid, order 18 or more\n")
    );
    assert_eq!(
        text(&["verify", "--format", "qemu", "-"], &framed()),
        "standard input: good: 104 bytes, 3 records, 4 valid, 6 invalid, order 24\n"
    );
    assert_eq!(
        text(&["verify", "-"], b""),
        "standard input: good: 0 bytes, 0 records, 0 valid, 0 invalid, order 18 or more\n"
    );
}

#[test]
fn stats_add_up() {
    let stats = text(&["stats", "--format", "qemu", "-"], &framed());
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = stats.lines().map(words).collect();
    for line in [
        "table: order 24, 1048576 entries",
        "records 3",
        "valid 4",
        "invalid 6",
        "bytes 104 = 8 x 3 + 16 x 4 + 16 of 1 sections' frames",
        "all 4",
        "bolted 1",
        "secondary 1",
        "segment 256M 1",
        "segment 1T 3",
        "page 4K/4K 1",
        "page 64K/64K 2",
        "page 16M/16M 1",
        "page 4K/64K 0",
        "R set 4",
        "C set 3",
        "real mode area: 16M pages",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} is not in\n{stats}");
    }
    let stats = text(&["stats", "-"], &[]);
    assert!(stats.contains("order 18, 16384 entries, or more: nobody says"));
    assert!(stats.contains("real mode area: none"));
}

#[test]
fn diff_tells_tables_apart_and_not_streams() {
    let a = file("diff-a", &stream(false));
    let b = file("diff-b", &framed());
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    assert_eq!(text(&["diff", a, "--format-b", "qemu", b], b""), "");
    // Two entries change after the first pass, and one comes that is the same as before.
    let mut changed = stream(false);
    changed.extend([3, 0, 0, 0, 0, 0, 1, 0]);
    changed.extend([2, 0, 0, 0, 1, 0, 0, 0]);
    changed.extend(ENTRIES[0].iter().flat_map(|word| word.to_be_bytes()));
    changed.extend([10, 0, 0, 0, 1, 0, 0, 0]);
    changed.extend(ENTRIES[0].iter().flat_map(|word| word.to_be_bytes()));
    let output = run(&["diff", a, "-"], &changed);
    assert_eq!(output.status.code(), Some(3));
    let lines = String::from_utf8(output.stdout).unwrap();
    let starts: Vec<_> = lines.lines().map(|line| &line[..24]).collect();
    assert_eq!(
        starts,
        [
            "- 0x3: v=0x40001ace54000",
            "- 0xa: v=0x4001ffffff000",
            "+ 0xa: v=0x40001ace54000",
        ]
    );
    let mut other = framed();
    other[3] = 25;
    let output = run(&["diff", "--format", "qemu", b, "-"], &other);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"- order 24\n+ order 25\n");
}

#[test]
fn convert_goes_round() {
    let convert = |from: &str, to: &str, more: &[&str], input: &[u8]| {
        let arguments = [&["convert", "--from", from, "--to", to, "-", "-"], more].concat();
        printed(&arguments, input)
    };
    assert_eq!(convert("le", "be", &[], &stream(false)), stream(true));
    assert_eq!(convert("be", "le", &[], &stream(true)), stream(false));
    assert_eq!(
        convert("be", "qemu", &["--order", "24"], &stream(true)),
        framed()
    );
    assert_eq!(convert("qemu", "le", &[], &framed()), stream(false));
    assert_eq!(convert("qemu", "qemu", &[], &framed()), framed());
    // What KVM leaves in an entry of its own goes.
    let mut kvm = stream(false);
    kvm[8 + 7] |= 0x40;
    assert_eq!(convert("le", "le", &[], &kvm), stream(false));
}

#[test]
fn convert_to_a_first_pass_counts_holes_or_leaves_them_out() {
    let path = file("converted", b"");
    let path = path.to_str().unwrap();
    let first_pass = |style: &str, input: &[u8]| {
        let order = ["--order", "18", "--holes", style];
        let arguments = [
            &["convert", "--from", "le", "--to", "le", "-", path][..],
            &order,
        ];
        assert_eq!(printed(&arguments.concat(), input), b"");
        std::fs::read(path).unwrap()
    };
    let counted = first_pass("counted", &stream(false));
    let headers = text(&["dump", path], b"");
    let headers: Vec<_> = headers.lines().filter(|l| l.contains("record")).collect();
    assert_eq!(
        headers,
        [
            "0x00000000 record from 0x0: 0 valid, 2 invalid",
            "0x00000008 record from 0x2: 2 valid, 6 invalid",
            "0x00000030 record from 0xa: 1 valid, 21 invalid",
            "0x00000048 record from 0x20: 1 valid, 16351 invalid",
        ]
    );
    let left_out = first_pass("left-out", &counted);
    let mut expected = stream(false);
    expected[6] = 0;
    assert_eq!(left_out, expected);
    assert_eq!(first_pass("counted", &left_out), counted);
}

#[test]
fn the_last_entry_of_the_largest_table_has_a_number() {
    assert_eq!(
        text(&["verify", "-"], &[255, 255, 255, 255, 0, 0, 1, 0]),
        "standard input: good: 8 bytes, 1 records, 0 valid, 1 invalid, order 36 or more\n"
    );
}

/// Streams of a real guest: see `mm/testdata`.
fn real(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    format!("{folder}/debian13-64k-{name}.hpt")
}

#[test]
fn a_real_guests_stream_is_good_and_its_law_holds() {
    let (idle, stress) = (real("idle"), real("stress"));
    assert_eq!(
        text(&["verify", "--order", "18", &idle], b""),
        format!("{idle}: good: 83528 bytes, 2063 records, 4189 valid, 12195 invalid, order 18\n")
    );
    let stats = text(&["stats", "--order", "18", &stress], b"");
    for line in [
        "  bytes             84160 = 8 x 2062 + 16 x 4229",
        "  bolted             4116",
        "  secondary             0",
        "  segment 256M         93",
        "  segment 1T         4136",
        "  page 64K/64K       4213",
        "  page 16M/16M         16",
        "  R set              3885",
        "  C set              4137",
        "real mode area: 16M pages",
    ] {
        assert!(stats.lines().any(|found| found == line), "{line}\n{stats}");
    }
    let dump = text(&["dump", &idle], b"");
    assert!(dump.lines().count() > 4189 + 2063);
}

#[test]
fn a_real_guests_streams_differ_by_what_it_did() {
    let (idle, stress) = (real("idle"), real("stress"));
    assert_eq!(text(&["diff", "--order", "18", &idle, &idle], b""), "");
    let output = run(&["diff", "--order", "18", &idle, &stress], b"");
    assert_eq!(output.status.code(), Some(3));
    let lines = String::from_utf8(output.stdout).unwrap();
    let count = |sign| lines.lines().filter(|line| line.starts_with(sign)).count();
    // As many more as the second one has.
    assert_eq!(count('+') - count('-'), 4229 - 4189, "{lines}");
}

#[test]
fn a_real_guests_stream_is_the_same_in_every_form() {
    let idle = real("idle");
    let original = std::fs::read(&idle).unwrap();
    let common = ["--order", "18"];
    let convert = |from: &str, to: &str, input: &[u8]| {
        let arguments = ["convert", "--from", from, "--to", to, "-", "-"];
        printed(&[&arguments[..1], &common, &arguments[1..]].concat(), input)
    };
    let big = convert("le", "be", &original);
    assert_eq!(big.len(), original.len());
    assert_ne!(big, original);
    assert_eq!(convert("be", "le", &big), original);
    let framed = convert("le", "qemu", &original);
    assert_eq!(convert("qemu", "le", &framed), original);
    let path = file("real-framed", &framed);
    let path = path.to_str().unwrap();
    let arguments = ["diff", "--order", "18", "--format-b", "qemu", &idle, path];
    assert_eq!(text(&arguments, b""), "");
}
