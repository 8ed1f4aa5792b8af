//! Which vector instructions this processor has.

use std::sync::OnceLock;

/// The instruction sets that operations have versions for, those of an architecture from slow to
/// fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2 with FMA and F16C: 2013 and later.
    Avx2,
    /// AVX2 and AVX-VNNI: Alder Lake, Zen 5 and later.
    AvxVnni,
    /// AVX-512 F, BW, VL, DQ and VNNI: Ice Lake, Zen 4 and later.
    Avx512,
    /// NEON, which every 64-bit ARM has.
    Neon,
    /// NEON with dot products: ARMv8.4, and most of ARMv8.2.
    NeonDot,
}

impl InstructionSet {
    /// Every set, in order.
    const ALL: [InstructionSet; 6] = [
        InstructionSet::Portable,
        InstructionSet::Avx2,
        InstructionSet::AvxVnni,
        InstructionSet::Avx512,
        InstructionSet::Neon,
        InstructionSet::NeonDot,
    ];

    /// The fastest set of this processor, looked up once.
    pub fn best() -> InstructionSet {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| {
            let fastest = InstructionSet::available().last();
            fastest.unwrap_or(InstructionSet::Portable)
        })
    }

    /// Every set that this processor can run.
    pub fn available() -> impl Iterator<Item = InstructionSet> {
        let all = InstructionSet::ALL.into_iter();
        all.filter(|set| set.is_available())
    }

    /// Whether this processor can run it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        match self {
            InstructionSet::Portable => true,
            InstructionSet::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            InstructionSet::AvxVnni => {
                InstructionSet::Avx2.is_available() && is_x86_feature_detected!("avxvnni")
            }
            InstructionSet::Avx512 => {
                InstructionSet::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            InstructionSet::Neon | InstructionSet::NeonDot => false,
        }
    }

    /// Whether this processor can run it.
    #[cfg(target_arch = "aarch64")]
    pub fn is_available(self) -> bool {
        use std::arch::is_aarch64_feature_detected;
        match self {
            InstructionSet::Portable => true,
            InstructionSet::Neon => is_aarch64_feature_detected!("neon"),
            InstructionSet::NeonDot => {
                InstructionSet::Neon.is_available() && is_aarch64_feature_detected!("dotprod")
            }
            InstructionSet::Avx2 | InstructionSet::AvxVnni | InstructionSet::Avx512 => false,
        }
    }

    /// Whether this processor can run it.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_available(self) -> bool {
        self == InstructionSet::Portable
    }
}

/// Compiles one loop for every instruction set and picks the version at run time:
/// `versions! { fn name(args) = body; }` gives `fn name(set, args)`, where `body` is an
/// `#[inline(always)]` function that the compiler vectorises anew for each set.
macro_rules! versions {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$doc])*
        $vis fn $name(set: $crate::InstructionSet, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $type),*) {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512($($arg: $type),*) {
                    $body($($arg),*)
                }
                assert!(set.is_available(), "{set:?} is not available on this processor");
                match set {
                    $crate::InstructionSet::Avx2 | $crate::InstructionSet::AvxVnni => {
                        // SAFETY: the assertion says that the processor has these features.
                        unsafe { avx2($($arg),*) }
                    }
                    // SAFETY: as above.
                    $crate::InstructionSet::Avx512 => unsafe { avx512($($arg),*) },
                    _ => $body($($arg),*),
                }
            }
            // Every 64-bit ARM has NEON, so the body is compiled for it.
            #[cfg(not(target_arch = "x86_64"))]
            {
                assert!(set.is_available(), "{set:?} is not available on this processor");
                $body($($arg),*)
            }
        }
    };
}
pub(crate) use versions;
