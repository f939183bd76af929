//! A simulated Vercel.
