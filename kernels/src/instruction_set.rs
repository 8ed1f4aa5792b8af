//! Which vector instructions this processor has.

use std::sync::OnceLock;

/// The instruction sets that operations have versions for, from narrow to wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2 with FMA and F16C: 2013 and later.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI: Ice Lake, Zen 4 and later.
    Avx512,
}

impl InstructionSet {
    /// The widest set of this processor, looked up once.
    pub fn best() -> InstructionSet {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut best = InstructionSet::Portable;
            for set in [InstructionSet::Avx2, InstructionSet::Avx512] {
                if set.is_available() {
                    best = set;
                }
            }
            best
        })
    }

    /// Every set that this processor can run.
    pub fn available() -> impl Iterator<Item = InstructionSet> {
        [
            InstructionSet::Portable,
            InstructionSet::Avx2,
            InstructionSet::Avx512,
        ]
        .into_iter()
        .filter(|set| set.is_available())
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
            InstructionSet::Avx512 => {
                InstructionSet::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    /// Whether this processor can run it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        self == InstructionSet::Portable
    }
}

/// Compiles one loop for every instruction set and picks the version at run time:
/// `versions! { fn name(args) = body; }` gives `fn name(set, args)`, where `body` is an
/// `#[inline(always)]` function that the compiler vectorises anew for each set.
macro_rules! versions {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$doc])*
        fn $name(set: $crate::InstructionSet, $($arg: $type),*) {
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
                    $crate::InstructionSet::Portable => $body($($arg),*),
                    // SAFETY: the assertion above says that the processor has these features.
                    $crate::InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::InstructionSet::Avx512 => unsafe { avx512($($arg),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                assert!(set.is_available(), "{set:?} is not available on this processor");
                $body($($arg),*)
            }
        }
    };
}
pub(crate) use versions;
