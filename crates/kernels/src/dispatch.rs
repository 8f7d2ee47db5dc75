//! One body of code, compiled for several instruction sets, chosen at run time.

use std::sync::OnceLock;

/// Instruction sets that the operations are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Whatever the compiler's target guarantees (SSE2 on x86-64, NEON on AArch64).
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, DQ, BW.
    Avx512,
}

/// The best instruction set of this machine, found once. `LORASCOPE_ISA=baseline|avx2` asks for less (for tests
/// and for comparing); asking for more than the machine has changes nothing.
pub fn isa() -> Isa {
    static FOUND: OnceLock<Isa> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let wanted = std::env::var("LORASCOPE_ISA").unwrap_or_default();
        detect(&wanted)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect(wanted: &str) -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw");
    match wanted {
        "baseline" => Isa::Baseline,
        "avx2" if avx2 => Isa::Avx2,
        _ if avx512 => Isa::Avx512,
        _ if avx2 => Isa::Avx2,
        _ => Isa::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect(_wanted: &str) -> Isa {
    Isa::Baseline
}

/// Defines a function generic over `R: Real` whose body is compiled for every [`Isa`] and chosen at run time.
///
/// The compiler vectorises each copy for its instruction set; results are the same in every copy that has fused
/// multiply-add, because the order of operations is that of the source.
///
/// A body that wants to know how many vector registers its copy has (the matrix product, for the height of its tiles)
/// declares `isa WIDE` as its last generic parameter: `true` in the copy for AVX-512, with 32 registers of 64
/// bytes, `false` in the others. The order of operations must not depend on it.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<R: Real, isa $wide:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name<R: Real>($($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<R: Real, const $wide: bool>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2<R: Real>($($arg: $ty),*) {
                    body::<R, false>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512<R: Real>($($arg: $ty),*) {
                    body::<R, true>($($arg),*)
                }
                match $crate::dispatch::isa() {
                    // SAFETY: `isa` returned this variant only after detecting the features that it stands for.
                    $crate::dispatch::Isa::Avx512 => unsafe { avx512::<R>($($arg),*) },
                    // SAFETY: as above.
                    $crate::dispatch::Isa::Avx2 => unsafe { avx2::<R>($($arg),*) },
                    $crate::dispatch::Isa::Baseline => body::<R, false>($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            body::<R, false>($($arg),*)
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<R: Real $(, const $c:ident: $ct:ty)*>(
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<R: Real $(, const $c: $ct)*>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<R: Real $(, const $c: $ct)*>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2<R: Real $(, const $c: $ct)*>($($arg: $ty),*) $(-> $ret)? {
                    body::<R $(, $c)*>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512<R: Real $(, const $c: $ct)*>($($arg: $ty),*) $(-> $ret)? {
                    body::<R $(, $c)*>($($arg),*)
                }
                match $crate::dispatch::isa() {
                    // SAFETY: `isa` returned this variant only after detecting the features that it stands for.
                    $crate::dispatch::Isa::Avx512 => unsafe { avx512::<R $(, $c)*>($($arg),*) },
                    // SAFETY: as above.
                    $crate::dispatch::Isa::Avx2 => unsafe { avx2::<R $(, $c)*>($($arg),*) },
                    $crate::dispatch::Isa::Baseline => body::<R $(, $c)*>($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            body::<R $(, $c)*>($($arg),*)
        }
    };
}
