//! Sixty-four bytes at a time: the only place with machine-specific code. Each implementation fills the same masks; a
//! property test holds them side by side.

use super::structure::{Carried, Masks, Structure};

/// A way to classify a block of 64 bytes.
pub(super) trait Lanes {
    /// Classifies the bytes; bit n speaks of byte n.
    fn masks(block: &[u8; 64]) -> Masks;

    /// Bit n is the parity of the bits 0..=n.
    #[inline(always)]
    fn prefix_xor(mut bits: u64) -> u64 {
        for shift in [1, 2, 4, 8, 16, 32] {
            bits ^= bits << shift;
        }
        bits
    }
}

/// Plain Rust, for every machine.
pub(super) struct Portable;

impl Lanes for Portable {
    #[inline(always)]
    fn masks(block: &[u8; 64]) -> Masks {
        let mut masks = Masks::default();
        for (at, &byte) in block.iter().enumerate() {
            masks.quote |= u64::from(byte == b'"') << at;
            masks.backslash |= u64::from(byte == b'\\') << at;
            masks.bracket |= u64::from(matches!(byte | 0x20, b'{' | b'}')) << at;
            masks.control |= u64::from(byte < 0x20) << at;
        }
        masks
    }
}

/// Fills the structure with the best implementation this machine has.
#[cfg(target_arch = "x86_64")]
pub(super) fn dispatch(structure: &mut Structure, text: &[u8]) -> Carried {
    x86::dispatch(structure, text)
}

/// Fills the structure with the best implementation this machine has.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn dispatch(structure: &mut Structure, text: &[u8]) -> Carried {
    structure.fill::<Portable>(text)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Carried, Lanes, Masks, Structure};

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
        #[inline(always)]
        fn masks(block: &[u8; 64]) -> Masks {
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
                let control = |half| _mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(0x1f)), half);
                Masks {
                    quote: are(low, high, b'"'),
                    backslash: are(low, high, b'\\'),
                    bracket: bits(bracket(low), bracket(high)),
                    control: bits(control(low), control(high)),
                }
            }
        }

        #[inline(always)]
        fn prefix_xor(bits: u64) -> u64 {
            // SAFETY: only instantiated inside `avx2`, which has the feature. A carry-less product with all ones is the
            // running parity.
            unsafe {
                let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
                _mm_cvtsi128_si64(product) as u64
            }
        }
    }

    struct Sse2;

    impl Lanes for Sse2 {
        #[inline(always)]
        fn masks(block: &[u8; 64]) -> Masks {
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
                Masks {
                    quote: all(&|quarter| is(quarter, b'"')),
                    backslash: all(&|quarter| is(quarter, b'\\')),
                    bracket: all(&|quarter| {
                        let lower = _mm_or_si128(quarter, _mm_set1_epi8(0x20));
                        _mm_or_si128(is(lower, b'{'), is(lower, b'}'))
                    }),
                    control: all(&|quarter| _mm_cmpeq_epi8(_mm_min_epu8(quarter, _mm_set1_epi8(0x1f)), quarter)),
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::Portable;
        use super::*;

        #[test]
        fn sse2_fills_the_same_masks() {
            for start in 0..=255u8 {
                let block: [u8; 64] = std::array::from_fn(|n| start.wrapping_add((n * 7) as u8));
                assert_eq!(Sse2::masks(&block), Portable::masks(&block));
            }
        }
    }
}
