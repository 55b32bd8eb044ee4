// Package history holds bounded series of numbers: a decaying histogram, a ring of
// recent points, and a downsampled series for a month.
//
// It is pure. Every structure has a fixed bound, adding to one allocates nothing in
// steady state, and decoding checks every number.
package history
