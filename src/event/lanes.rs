//! Sixty-four bytes at a time: the only place with machine-specific code. Each implementation fills the same masks; a
//! property test holds them side by side.

use super::structure::{Carried, Masks, Structure};

/// A way to classify a block of 64 bytes.
pub(super) trait Lanes {
    /// What is remembered of all bytes together, before any.
    const NOTHING: Self::Seen;
    /// What is remembered of all bytes together: questions whose answer is nearly always no are asked once a text.
    type Seen: Copy;

    /// Classifies the bytes; bit n speaks of byte n.
    fn masks(block: &[u8; 64], seen: &mut Self::Seen) -> Masks;

    /// What there was among the bytes.
    fn sum(seen: Self::Seen) -> Sum;

    /// Bit n is the parity of the bits 0..=n.
    #[inline(always)]
    fn prefix_xor(mut bits: u64) -> u64 {
        for shift in [1, 2, 4, 8, 16, 32] {
            bits ^= bits << shift;
        }
        bits
    }
}

/// What there is among the bytes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    /// Bytes below 0x20.
    pub(super) control: bool,
    /// Only bytes below 0x80.
    pub(super) ascii: bool,
}

/// Plain Rust, for every machine.
pub(super) struct Portable;

impl Lanes for Portable {
    const NOTHING: (u8, u8) = (u8::MAX, 0);
    /// The least byte, and all bits that are set in any.
    type Seen = (u8, u8);

    #[inline(always)]
    fn masks(block: &[u8; 64], (least, any): &mut (u8, u8)) -> Masks {
        let mut masks = Masks::default();
        for (at, &byte) in block.iter().enumerate() {
            masks.quote |= u64::from(byte == b'"') << at;
            masks.backslash |= u64::from(byte == b'\\') << at;
            masks.bracket |= u64::from(matches!(byte | 0x20, b'{' | b'}')) << at;
            *least = byte.min(*least);
            *any |= byte;
        }
        masks
    }

    fn sum((least, any): (u8, u8)) -> Sum {
        Sum { control: least < 0x20, ascii: any < 0x80 }
    }
}

/// Fills the structure with the best implementation this machine has, and gives the text back if it is UTF-8.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(super) fn dispatch<'t>(structure: &mut Structure, text: &'t [u8]) -> (Carried, Option<&'t str>) {
    let carried = x86::dispatch(structure, text);
    if carried.ascii {
        // SAFETY: each byte was found to be below 0x80, and such text is UTF-8.
        return (carried, Some(unsafe { std::str::from_utf8_unchecked(text) }));
    }
    (carried, simdutf8::basic::from_utf8(text).ok())
}

/// Fills the structure with the best implementation this machine has, and gives the text back if it is UTF-8.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn dispatch<'t>(structure: &mut Structure, text: &'t [u8]) -> (Carried, Option<&'t str>) {
    (structure.fill::<Portable>(text), simdutf8::basic::from_utf8(text).ok())
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Carried, Lanes, Masks, Structure, Sum};

    pub(super) fn dispatch(structure: &mut Structure, text: &[u8]) -> Carried {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("pclmulqdq") {
            // SAFETY: the features that the function asks for have just been detected.
            unsafe { avx2(structure, text) }
        } else {
            structure.fill::<Sse2>(text)
        }
    }

    #[target_feature(enable = "avx2,pclmulqdq")]
    fn avx2(structure: &mut Structure, text: &[u8]) -> Carried {
        structure.fill::<Avx2>(text)
    }

    struct Avx2;

    impl Lanes for Avx2 {
        // SAFETY: plain bits.
        const NOTHING: Self::Seen =
            unsafe { std::mem::transmute::<[[u8; 32]; 2], Self::Seen>([[u8::MAX; 32], [0; 32]]) };
        /// Lane by lane the least byte, and all bits that are set in any.
        type Seen = [__m256i; 2];

        #[inline(always)]
        fn masks(block: &[u8; 64], [least, any]: &mut Self::Seen) -> Masks {
            // SAFETY: only instantiated inside `avx2`, which has the feature; both loads stay inside the 64 bytes.
            unsafe {
                let low = _mm256_loadu_si256(block.as_ptr().cast());
                let high = _mm256_loadu_si256(block.as_ptr().add(32).cast());
                let bits = |low, high| {
                    u64::from(_mm256_movemask_epi8(low) as u32) | u64::from(_mm256_movemask_epi8(high) as u32) << 32
                };
                let are = |low, high, byte: u8| {
                    let byte = _mm256_set1_epi8(byte as i8);
                    bits(_mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte))
                };
                let bracket = |half| {
                    let lower = _mm256_or_si256(half, _mm256_set1_epi8(0x20));
                    let is = |byte: u8| _mm256_cmpeq_epi8(lower, _mm256_set1_epi8(byte as i8));
                    _mm256_or_si256(is(b'{'), is(b'}'))
                };
                *least = _mm256_min_epu8(*least, _mm256_min_epu8(low, high));
                *any = _mm256_or_si256(*any, _mm256_or_si256(low, high));
                Masks {
                    quote: are(low, high, b'"'),
                    backslash: are(low, high, b'\\'),
                    bracket: bits(bracket(low), bracket(high)),
                }
            }
        }

        #[inline(always)]
        fn sum([least, any]: Self::Seen) -> Sum {
            // SAFETY: as above.
            unsafe {
                let control = _mm256_cmpeq_epi8(_mm256_min_epu8(least, _mm256_set1_epi8(0x1f)), least);
                Sum { control: _mm256_movemask_epi8(control) != 0, ascii: _mm256_movemask_epi8(any) == 0 }
            }
        }

        #[inline(always)]
        fn prefix_xor(bits: u64) -> u64 {
            // SAFETY: as above. A carry-less product with all ones is the running parity.
            unsafe {
                let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
                _mm_cvtsi128_si64(product) as u64
            }
        }
    }

    struct Sse2;

    impl Lanes for Sse2 {
        // SAFETY: plain bits.
        const NOTHING: Self::Seen =
            unsafe { std::mem::transmute::<[[u8; 16]; 2], Self::Seen>([[u8::MAX; 16], [0; 16]]) };
        /// Lane by lane the least byte, and all bits that are set in any.
        type Seen = [__m128i; 2];

        #[inline(always)]
        fn masks(block: &[u8; 64], [least, any]: &mut Self::Seen) -> Masks {
            // SAFETY: SSE2 is part of x86_64; the four loads stay inside the 64 bytes.
            unsafe {
                let quarters: [__m128i; 4] =
                    std::array::from_fn(|n| _mm_loadu_si128(block.as_ptr().add(n * 16).cast()));
                let all = |f: &dyn Fn(__m128i) -> __m128i| -> u64 {
                    quarters.iter().enumerate().fold(0, |bits, (n, quarter)| {
                        bits | u64::from(_mm_movemask_epi8(f(*quarter)) as u16) << (n * 16)
                    })
                };
                let is = |quarter, byte: u8| _mm_cmpeq_epi8(quarter, _mm_set1_epi8(byte as i8));
                for quarter in quarters {
                    *least = _mm_min_epu8(*least, quarter);
                    *any = _mm_or_si128(*any, quarter);
                }
                Masks {
                    quote: all(&|quarter| is(quarter, b'"')),
                    backslash: all(&|quarter| is(quarter, b'\\')),
                    bracket: all(&|quarter| {
                        let lower = _mm_or_si128(quarter, _mm_set1_epi8(0x20));
                        _mm_or_si128(is(lower, b'{'), is(lower, b'}'))
                    }),
                }
            }
        }

        #[inline(always)]
        fn sum([least, any]: Self::Seen) -> Sum {
            // SAFETY: as above.
            unsafe {
                let control = _mm_cmpeq_epi8(_mm_min_epu8(least, _mm_set1_epi8(0x1f)), least);
                Sum { control: _mm_movemask_epi8(control) != 0, ascii: _mm_movemask_epi8(any) == 0 }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::Portable;
        use super::*;

        fn of<L: Lanes>(block: &[u8; 64]) -> (Masks, Sum) {
            let mut seen = L::NOTHING;
            (L::masks(block, &mut seen), L::sum(seen))
        }

        #[target_feature(enable = "avx2,pclmulqdq")]
        fn of_avx2(block: &[u8; 64]) -> (Masks, Sum) {
            of::<Avx2>(block)
        }

        #[test]
        fn all_fill_the_same_masks() {
            for (start, step) in (0..=255u8).flat_map(|start| [0, 1, 7].map(|step| (start, step))) {
                let block: [u8; 64] = std::array::from_fn(|n| start.wrapping_add((n * step) as u8));
                let expected = of::<Portable>(&block);
                assert_eq!(of::<Sse2>(&block), expected);
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("pclmulqdq") {
                    // SAFETY: the features have just been detected.
                    assert_eq!(unsafe { of_avx2(&block) }, expected);
                }
            }
        }
    }
}
