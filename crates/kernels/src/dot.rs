//! Placeholder until the kernels' own lands.
use crate::Real;
/// One output element in the order of additions of [`crate::matmul`].
pub fn dot_ordered<R: Real>(x: &[R], w: &[R]) -> R {
    let mut out = R::ZERO;
    for (b, (xb, wb)) in x.chunks(256).zip(w.chunks(256)).enumerate() {
        let mut total = R::ZERO;
        for (xp, wp) in xb.chunks(32).zip(wb.chunks(32)) {
            let mut acc = R::ZERO;
            for (&a, &c) in xp.iter().zip(wp) {
                acc = a.mul_add(c, acc);
            }
            total += acc;
        }
        out = if b == 0 { total } else { R::ONE.mul_add(total, out) };
    }
    out
}
