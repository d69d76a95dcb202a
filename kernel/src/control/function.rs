// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The functions and features of the interface, as data: the dispatcher checks by it, and the
//! reference and the C header are held against it.

use super::records::{
    Capabilities, DirtyReply, DirtyRequest, Invalidate, Slot, StreamChunk, VcpuState,
};

/// What a function does with the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// It has none: r6 and r7 are 0.
    None,
    /// It reads a record from it, which has at least so many bytes.
    In(usize),
    /// It writes at least so many bytes to it.
    Out(usize),
    /// It reads a record, and writes at least so many bytes over it.
    InOut(usize),
}

impl Buffer {
    /// Shortest buffer, bytes.
    #[must_use]
    pub const fn min_bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::In(bytes) | Self::Out(bytes) | Self::InOut(bytes) => bytes,
        }
    }
}

/// What the reference says of a function.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The function.
    pub function: Function,
    /// Its name.
    pub name: &'static str,
    /// Its buffer.
    pub buffer: Buffer,
    /// Arguments from r8 on.
    pub arguments: &'static str,
    /// Results from r4 on.
    pub results: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

macro_rules! functions {
    ($($(#[doc = $meaning:literal])* $number:literal $function:ident $name:ident, $buffer:expr,
        $arguments:literal => $results:literal;)*) => {
        /// A function of the interface; its number is what r4 holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Function {
            $($(#[doc = $meaning])* $function = $number,)*
        }

        impl Function {
            /// All functions, by number.
            pub const ALL: &'static [Description] = &[
                $(Description {
                    function: Self::$function,
                    name: stringify!($name),
                    buffer: $buffer,
                    arguments: $arguments,
                    results: $results,
                    meaning: concat!($($meaning),*),
                },)*
            ];

            /// The function with this number.
            #[must_use]
            pub const fn new(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$function),)*
                    _ => None,
                }
            }

            /// What it does with the buffer.
            #[must_use]
            pub const fn buffer(self) -> Buffer {
                match self {
                    $(Self::$function => $buffer,)*
                }
            }
        }
    };
}

/// A reply to DIRTY_FETCH with 64 pages.
const FETCH: usize = size_of::<DirtyReply>() + 8;
/// A piece of a stream with one entry.
pub(super) const READ: usize = size_of::<StreamChunk>() + 24;

const _: () = assert!(FETCH >= size_of::<DirtyRequest>());

functions! {
    /// Whether something is offered.
    1 Feature FEATURE, Buffer::None, "feature" => "version, 0 where not offered; parameter";
    /// What is offered, and the limits.
    2 Capabilities CAPABILITIES, Buffer::Out(size_of::<Capabilities>()), "" => "bytes";
    /// The memory slots.
    3 Slots SLOTS, Buffer::Out(size_of::<Slot>()), "cursor" => "bytes; cursor";
    /// Switches the dirty log of a slot.
    4 DirtyLog DIRTY_LOG, Buffer::None, "slot; 1 on, 0 off" => "";
    /// Collects what the hardware noted since.
    5 DirtyHarvest DIRTY_HARVEST, Buffer::None, "slot; 0 cheap, 1 exact; cursor" => "cursor; pages that became dirty";
    /// The pages that are dirty.
    6 DirtyFetch DIRTY_FETCH, Buffer::InOut(FETCH), "slot" => "bytes; next page";
    /// Opens a stream of the page table.
    7 StreamOpen STREAM_OPEN, Buffer::None, "flags" => "stream";
    /// The next piece of it.
    8 StreamRead STREAM_READ, Buffer::Out(READ), "stream" => "bytes; flags of the piece";
    /// Puts a piece of it into the page table.
    9 StreamWrite STREAM_WRITE, Buffer::In(size_of::<StreamChunk>()), "stream" => "offset of the next piece";
    /// Closes it.
    10 StreamClose STREAM_CLOSE, Buffer::None, "stream" => "";
    /// Drops the entries of the page table.
    11 HptDrop HPT_DROP, Buffer::None, "cursor" => "cursor";
    /// Reads a virtual processor.
    12 VcpuGet VCPU_GET, Buffer::Out(size_of::<VcpuState>()), "virtual processor; parts" => "bytes";
    /// Writes a virtual processor.
    13 VcpuSet VCPU_SET, Buffer::In(size_of::<VcpuState>()), "virtual processor" => "";
    /// Stops the partition, and takes hold of it.
    14 Suspend SUSPEND, Buffer::None, "" => "";
    /// Declares changes finished.
    15 Commit COMMIT, Buffer::None, "" => "";
    /// Lets the partition run.
    16 Resume RESUME, Buffer::None, "" => "";
    /// Drops translations of entries that were changed.
    17 Invalidate INVALIDATE, Buffer::In(size_of::<Invalidate>()), "" => "bits set; 1 everything was flushed, 0 single entries";
}

/// Features that have a number, now or later.
pub const FEATURES: usize = 32;

macro_rules! features {
    ($($(#[$doc:meta])* $number:literal $feature:ident $name:ident, $parameter:literal;)*) => {
        /// Something that is offered for a partition or not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Feature {
            $($(#[$doc])* $feature = $number,)*
        }

        impl Feature {
            /// Feature, name, and meaning of FEATURE's second result.
            pub const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$feature, stringify!($name), $parameter),)*];

            /// The feature with this number.
            #[must_use]
            pub const fn new(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$feature),)*
                    _ => None,
                }
            }
        }
    };
}

features! {
    /// SLOTS.
    0 Slots SLOTS, "number of slots";
    /// DIRTY_LOG, DIRTY_HARVEST, DIRTY_FETCH.
    1 DirtyLog DIRTY_LOG, "`dirty_page_sizes`";
    /// STREAM_OPEN for reading, STREAM_READ, STREAM_CLOSE.
    2 StreamRead STREAM_READ, "number of readers";
    /// STREAM_OPEN for writing, STREAM_WRITE, HPT_DROP.
    3 StreamWrite STREAM_WRITE, "0";
    /// VCPU_GET, VCPU_SET.
    4 VcpuState VCPU_STATE, "number of virtual processors";
    /// VCPU_GET, VCPU_SET: floating-point registers.
    5 Fp FP, "0";
    /// VCPU_GET, VCPU_SET: vector registers.
    6 Vmx VMX, "0";
    /// VCPU_GET, VCPU_SET: vector-scalar registers.
    7 Vsx VSX, "0";
    /// SUSPEND, COMMIT, RESUME.
    8 Suspend SUSPEND, "0";
    /// INVALIDATE.
    9 Invalidate INVALIDATE, "`flush_threshold`";
    /// Slots of kind framebuffer.
    10 Framebuffer FRAMEBUFFER, "0";
}

const _: () = assert!(Feature::ALL.len() <= FEATURES);
