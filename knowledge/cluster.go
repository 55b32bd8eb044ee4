package knowledge

import (
	"cmp"
	"strconv"
)

// Term is the fencing number of the node that plans for a service. Terms are
// ordered by Round, then by Owner: no two nodes ever hold the same one. The zero
// value is before all others.
type Term struct {
	Round uint64 `json:"round" cbor:"1,keyasint"`
	Owner NodeID `json:"owner" cbor:"2,keyasint"`
}

// Compare orders terms: -1, 0 or 1.
func (t Term) Compare(o Term) int {
	return cmp.Or(cmp.Compare(t.Round, o.Round), cmp.Compare(t.Owner, o.Owner))
}

// After reports whether t is higher than o.
func (t Term) After(o Term) bool { return t.Compare(o) > 0 }

// IsZero reports whether no node has planned yet.
func (t Term) IsZero() bool { return t == Term{} }

// String is "7 of 3f2a…": the round, and the owner's first digits.
func (t Term) String() string {
	return strconv.FormatUint(t.Round, 10) + " of " + t.Owner.Short()
}

// Short is the form for display: the first 8 digits.
func (id NodeID) Short() string {
	if len(id) > 8 {
		return string(id[:8])
	}
	return string(id)
}

// Version orders the messages of one node: Epoch grows with each process start, Seq
// within one.
type Version struct {
	Epoch uint64 `json:"epoch" cbor:"1,keyasint"`
	Seq   uint64 `json:"seq" cbor:"2,keyasint"`
}

// After reports whether v is newer than o.
func (v Version) After(o Version) bool {
	return cmp.Or(cmp.Compare(v.Epoch, o.Epoch), cmp.Compare(v.Seq, o.Seq)) > 0
}

// Assigned is the envelope of one replica.
type Assigned struct {
	ID       ContainerID `cbor:"1,keyasint"`
	Envelope Envelope    `cbor:"2,keyasint"`
}

// Intent is what a service's owner declares for one host: complete, and harmless
// twice or out of order. A host obeys the highest Term that it has seen, and within
// it the highest Seq.
type Intent struct {
	Service   ServiceKey `cbor:"1,keyasint"`
	Host      NodeID     `cbor:"2,keyasint"`
	Term      Term       `cbor:"3,keyasint"`
	Seq       uint64     `cbor:"4,keyasint"`
	Envelopes []Assigned `cbor:"5,keyasint"`
}
