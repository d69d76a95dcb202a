// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The consoles of the partitions, and the one serial line that they share.
//!
//! H_PUT_TERM_CHAR puts up to 16 bytes into the partition's [`OutputRing`] and returns; the rings
//! are emptied into the firmware's console off that path. The [`Multiplexer`] decides whose bytes
//! reach the line: those of the partition whose console is attached, or those of the monitor. The
//! attached one gets H_BUSY when its ring is full, so that nothing of it is lost, also while the
//! operator is in the monitor. Any other would wait for ever: it loses its oldest output instead,
//! and the ring counts how much.
//!
//! Guaranteed: a push is all or nothing; bytes come out in the order in which they went in;
//! nothing here waits. Relied on: each ring has one producer and one consumer at a time; a caller
//! with more of either holds a lock. Breaking that garbles text and nothing else.
//!
//! LoPAR, Client Vterm (H_PUT_TERM_CHAR, H_GET_TERM_CHAR); OPAL API, OPAL_CONSOLE_WRITE.

pub mod mux;
pub mod rate;
pub mod ring;
pub mod term;

pub use mux::{Focus, GuestId, Multiplexer, Routed};
pub use rate::{Admission, RateLimit, Suppressed};
pub use ring::{ConsoleSink, Full, InputRing, OutputRing};
pub use term::{Printable, TermBytes};
