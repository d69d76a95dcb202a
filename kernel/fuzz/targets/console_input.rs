// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as what an operator types and a guest prints: the multiplexer, the line editor, the
//! command parser, the hypervisor's command line, and the filter for guests' text in messages.
#![no_main]

use core::fmt::Write;
use libfuzzer_sys::fuzz_target;
use penstock_kernel::bootargs::BootArgs;
use penstock_kernel::console::{
    ConsoleSink, GuestId, Multiplexer, OutputRing, Printable, Routed, TermBytes,
};
use penstock_kernel::monitor::{Command, Edit, LineEditor};

/// A line that takes fewer bytes than it is given.
struct Line {
    shown: Vec<u8>,
    room: usize,
}

impl ConsoleSink for Line {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.shown.extend(&bytes[..taken]);
        taken
    }
}

fuzz_target!(|bytes: &[u8]| {
    let printed = Printable(bytes).to_string();
    assert!(printed.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    if let Ok(text) = core::str::from_utf8(bytes) {
        let _ = BootArgs::parse(text);
    }
    let (mut mux, mut editor, ring) = (Multiplexer::new(), LineEditor::new(), OutputRing::new());
    let mut line = Line {
        shown: Vec::new(),
        room: 0,
    };
    let (mut output, mut passed) = (Vec::new(), 0);
    mux.attach(GuestId(1));
    for (number, &byte) in bytes.iter().enumerate() {
        match mux.route(byte) {
            Routed::ToGuest(_, byte) => {
                // A guest that echoes.
                if ring.push(TermBytes::pack(&[byte; 3])).is_ok() {
                    output.extend([byte; 3]);
                    passed += 3;
                }
            }
            Routed::ToMonitor(byte) => {
                if editor.input(byte, &mut mux.text()) == Edit::Line {
                    let text = String::from(editor.line());
                    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                    if let Err(error) = Command::parse(&text) {
                        let _ = writeln!(mux.text(), "{error}");
                    }
                }
            }
            Routed::EnteredMonitor => {
                let _ = editor.redraw(&mut mux.text());
            }
            Routed::ReturnedToGuest { .. } => editor.clear(),
            Routed::Ignored => {}
        }
        line.room = usize::from(byte) * number % 40;
        mux.pump(Some((GuestId(1), &ring)), &mut line);
    }
    line.room = usize::MAX;
    mux.attach(GuestId(1));
    mux.pump(Some((GuestId(1), &ring)), &mut line);
    assert!(ring.is_empty() && !mux.has_own_text());
    assert_eq!(ring.total(), passed);
    // What the guest printed is all there, in its order.
    let mut rest = line.shown.iter();
    assert!(output.iter().all(|byte| rest.any(|shown| shown == byte)));
});
