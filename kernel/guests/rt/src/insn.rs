// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Instruction words, and short programs made of them.
//!
//! A check runs a handful of instructions in a chosen state; as data they can be put into any page,
//! in either byte order, and the test itself needs no assembly. Encodings: Power ISA 3.0B, Book I
//! and III, instruction descriptions.

/// The most instructions a [`Program`] holds.
pub const CAPACITY: usize = 96;

/// A short program under construction. What does not fit is dropped, and [`Program::fits`] says so.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    words: [u32; CAPACITY],
    len: usize,
    overflow: usize,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

const fn d_form(opcode: u32, rt: u32, ra: u32, immediate: i16) -> u32 {
    opcode << 26 | rt << 21 | ra << 16 | immediate.cast_unsigned() as u32
}

const fn x_form(rt: u32, ra: u32, rb: u32, extended: u32) -> u32 {
    31 << 26 | rt << 21 | ra << 16 | rb << 11 | extended << 1
}

const fn spr_field(number: u32) -> u32 {
    (number & 0x1f) << 16 | (number >> 5) << 11
}

macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) = $word:expr;)*) => {
        $($(#[$doc])* #[must_use] pub const fn $name($($arg: $kind),*) -> u32 { $word })*

        impl Program {
            $($(#[$doc])* #[must_use] pub const fn $name(self, $($arg: $kind),*) -> Self {
                self.word($name($($arg),*))
            })*
        }
    };
}

instructions! {
    /// addi rt, 0, value.
    li(rt: u32, value: i16) = d_form(14, rt, 0, value);
    /// addis rt, 0, value.
    lis(rt: u32, value: i16) = d_form(15, rt, 0, value);
    /// addi.
    addi(rt: u32, ra: u32, value: i16) = d_form(14, rt, ra, value);
    /// ori.
    ori(ra: u32, rs: u32, value: u16) = 24 << 26 | rs << 21 | ra << 16 | value as u32;
    /// xori.
    xori(ra: u32, rs: u32, value: u16) = 26 << 26 | rs << 21 | ra << 16 | value as u32;
    /// or ra, rs, rs.
    mr(ra: u32, rs: u32) = x_form(rs, ra, rs, 444);
    /// or ra, rs, rb.
    or(ra: u32, rs: u32, rb: u32) = x_form(rs, ra, rb, 444);
    /// addic. rt, ra, value: also compares the sum with 0.
    addic_record(rt: u32, ra: u32, value: i16) = d_form(13, rt, ra, value);
    /// mtctr rs.
    mtctr(rs: u32) = mtspr(9, rs);
    /// bctr.
    bctr() = 0x4e80_0420;
    /// add rt, ra, rb.
    add(rt: u32, ra: u32, rb: u32) = x_form(rt, ra, rb, 266);
    /// cmpdi ra, value (into CR0).
    cmpdi(ra: u32, value: i16) = d_form(11, 1, ra, value);
    /// bne CR0, distance in instructions from here.
    bne(words: i16) = 16 << 26 | 4 << 21 | 2 << 16 | ((words << 2).cast_unsigned() & 0xfffc) as u32;
    /// bdnz, distance in instructions from here.
    bdnz(words: i16) = 16 << 26 | 16 << 21 | ((words << 2).cast_unsigned() & 0xfffc) as u32;
    /// ld rt, offset(ra); the offset is a multiple of 4.
    ld(rt: u32, ra: u32, offset: i16) = d_form(58, rt, ra, offset);
    /// std rs, offset(ra); the offset is a multiple of 4.
    std(rs: u32, ra: u32, offset: i16) = d_form(62, rs, ra, offset);
    /// lwz.
    lwz(rt: u32, ra: u32, offset: i16) = d_form(32, rt, ra, offset);
    /// stw.
    stw(rs: u32, ra: u32, offset: i16) = d_form(36, rs, ra, offset);
    /// lhz.
    lhz(rt: u32, ra: u32, offset: i16) = d_form(40, rt, ra, offset);
    /// lbz.
    lbz(rt: u32, ra: u32, offset: i16) = d_form(34, rt, ra, offset);
    /// stb.
    stb(rs: u32, ra: u32, offset: i16) = d_form(38, rs, ra, offset);
    /// stdx rs, ra, rb.
    stdx(rs: u32, ra: u32, rb: u32) = x_form(rs, ra, rb, 149);
    /// ldarx.
    ldarx(rt: u32, ra: u32, rb: u32) = x_form(rt, ra, rb, 84);
    /// stdcx. (ra = 0 means no base).
    stdcx(rs: u32, ra: u32, rb: u32) = x_form(rs, ra, rb, 214) | 1;
    /// dcbz 0, rb.
    dcbz(rb: u32) = x_form(0, 0, rb, 1014);
    /// sc with the level.
    sc(level: u32) = 17 << 26 | level << 5 | 2;
    /// An unconditional trap: a program interrupt.
    trap() = 0x7fe0_0008;
    /// The word that is illegal in every level of the architecture.
    illegal() = 0;
    /// rfid.
    rfid() = 0x4c00_0024;
    /// hrfid, for hypervisors only.
    hrfid() = 0x4c00_0224;
    /// blr.
    blr() = 0x4e80_0020;
    /// A branch to itself.
    spin() = 0x4800_0000;
    /// nop.
    nop() = 0x6000_0000;
    /// isync.
    isync() = 0x4c00_012c;
    /// sync.
    sync() = 0x7c00_04ac;
    /// mfspr.
    mfspr(rt: u32, number: u32) = x_form(rt, 0, 0, 339) | spr_field(number);
    /// mtspr.
    mtspr(number: u32, rs: u32) = x_form(rs, 0, 0, 467) | spr_field(number);
    /// mfspr rt, TB.
    mftb(rt: u32) = mfspr(rt, 268);
    /// mfmsr.
    mfmsr(rt: u32) = x_form(rt, 0, 0, 83);
    /// mtmsrd rs, 1: EE and RI only.
    mtmsrd_ee(rs: u32) = x_form(rs, 1, 0, 178);
    /// tlbie rb, rs with RIC = 0, PRS = 0, R = 0, for hypervisors only.
    tlbie(rb: u32, rs: u32) = x_form(rs, 0, rb, 306);
    /// tlbsync.
    tlbsync() = x_form(0, 0, 0, 566);
    /// msgsnd rb, for hypervisors only.
    msgsnd(rb: u32) = x_form(0, 0, rb, 206);
    /// msgsndp rb.
    msgsndp(rb: u32) = x_form(0, 0, rb, 142);
    /// ldcix rt, 0, rb, for hypervisors only.
    ldcix(rt: u32, rb: u32) = x_form(rt, 0, rb, 885);
    /// stop, for hypervisors (and guests that they let).
    stop() = 0x4c00_02e4;
    /// fmr frt, frb.
    fmr(frt: u32, frb: u32) = 63 << 26 | frt << 21 | frb << 11 | 72 << 1;
    /// vor vrt, vra, vrb.
    vor(vrt: u32, vra: u32, vrb: u32) = 4 << 26 | vrt << 21 | vra << 16 | vrb << 11 | 1156;
    /// xxlor xt, xa, xb with registers 0 to 31.
    xxlor(xt: u32, xa: u32, xb: u32) = 60 << 26 | xt << 21 | xa << 16 | xb << 11 | 146 << 3;
}

impl Program {
    /// No instruction yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            words: [0; CAPACITY],
            len: 0,
            overflow: 0,
        }
    }

    /// One more word.
    #[must_use]
    pub const fn word(mut self, word: u32) -> Self {
        if self.len < CAPACITY {
            self.words[self.len] = word;
            self.len += 1;
        } else {
            self.overflow += 1;
        }
        self
    }

    /// The instructions so far.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        self.words.get(..self.len).unwrap_or(&[])
    }

    /// How many instructions so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no instruction yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether every instruction found a place.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.overflow == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected words are GNU as's (powerpc64le, -mpower9).
    #[test]
    fn encodings_are_the_assemblers() {
        assert_eq!(li(3, 4), 0x3860_0004);
        assert_eq!(li(3, -1), 0x3860_ffff);
        assert_eq!(lis(5, 0x7fff), 0x3ca0_7fff);
        assert_eq!(addi(4, 5, 8), 0x3885_0008);
        assert_eq!(ori(3, 3, 0xf000), 0x6063_f000);
        assert_eq!(xori(10, 12, 1), 0x698a_0001);
        assert_eq!(mr(4, 3), 0x7c64_1b78);
        assert_eq!(or(17, 17, 3), 0x7e31_1b78);
        assert_eq!(addic_record(14, 14, -1), 0x35ce_ffff);
        assert_eq!(mtctr(25), 0x7f29_03a6);
        assert_eq!(add(3, 4, 5), 0x7c64_2a14);
        assert_eq!(cmpdi(14, 0), 0x2c2e_0000);
        assert_eq!(bne(-2), 0x4082_fff8);
        assert_eq!(bdnz(-1), 0x4200_fffc);
        assert_eq!(ld(4, 3, 8), 0xe883_0008);
        assert_eq!(std(4, 3, -8), 0xf883_fff8);
        assert_eq!(lwz(4, 3, 4), 0x8083_0004);
        assert_eq!(stb(4, 3, 1), 0x9883_0001);
        assert_eq!(stdx(4, 5, 6), 0x7c85_312a);
        assert_eq!(ldarx(4, 0, 3), 0x7c80_18a8);
        assert_eq!(stdcx(4, 0, 3), 0x7c80_19ad);
        assert_eq!(dcbz(3), 0x7c00_1fec);
        assert_eq!(sc(0), 0x4400_0002);
        assert_eq!(sc(1), 0x4400_0022);
        assert_eq!(mfspr(3, 268), 0x7c6c_42a6);
        assert_eq!(mtspr(22, 3), 0x7c76_03a6);
        assert_eq!(mfspr(3, 318), 0x7c7e_4aa6);
        assert_eq!(mfmsr(3), 0x7c60_00a6);
        assert_eq!(mtmsrd_ee(4), 0x7c81_0164);
        assert_eq!(tlbie(3, 4), 0x7c80_1a64);
        assert_eq!(tlbsync(), 0x7c00_046c);
        assert_eq!(msgsnd(3), 0x7c00_199c);
        assert_eq!(msgsndp(3), 0x7c00_191c);
        assert_eq!(ldcix(3, 4), 0x7c60_26ea);
        assert_eq!(fmr(0, 1), 0xfc00_0890);
        assert_eq!(vor(0, 1, 2), 0x1001_1484);
        assert_eq!(xxlor(0, 1, 2), 0xf001_1490);
    }

    #[test]
    fn a_program_that_is_too_long_says_so() {
        let mut program = Program::new();
        for _ in 0..CAPACITY {
            program = program.nop();
        }
        assert!(program.fits());
        assert_eq!(program.len(), CAPACITY);
        assert!(!program.nop().fits());
    }
}
