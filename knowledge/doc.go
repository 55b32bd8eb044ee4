// Package knowledge holds the types that all packages share: samples, findings,
// decisions, actions and their outcomes, with the units in the types.
//
// It imports the standard library only and has no clock and no I/O. A value of this
// package is plain data.
package knowledge
