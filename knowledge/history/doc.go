// Package history holds the bounded memories of numbers: a decaying histogram,
// a ring of recent points, and a downsampled series for a month.
//
// It is pure: values and an instant in, values out. Every structure has a fixed
// bound, adding to one allocates nothing in steady state, and what is decoded
// from bytes is checked as a stranger's.
package history
