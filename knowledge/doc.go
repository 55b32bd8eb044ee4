// Package knowledge holds the words that every room of EffiScale speaks: what
// is sampled, found, decided, done and learned, with the units in the types.
//
// It is floor 0: the standard library only, no clock, no I/O. A value of this
// package is plain data; whoever receives one may keep it.
package knowledge
