package member

import (
	"encoding/binary"
	"slices"
)

// memberlist allocates as many members as the head of a push/pull announces, up to a
// million: 112 MiB for 21 bytes, as long as the stream is open. Where gossip has no key
// every user of the host can open 64 of them, so heads are checked here first.

const (
	typePushPull = 6
	typeUser     = 8
	// headMost is a label and a head of three fields at their longest.
	headMost = 2 + 255 + 64
	// headNodes and headState are more than a node of ours ever announces: living and
	// failed members, and leave notices.
	headNodes, headState = 2 * maxAlive, 64 << 10
)

// judgeHead checks what came of a stream so far. more: too little to decide.
func judgeHead(b []byte) (cause Cause, more bool) {
	whole := len(b) >= headMost
	if len(b) > 0 && b[0] == typeLabel {
		if len(b) < 2 || len(b) <= 2+int(b[1]) {
			return "", !whole
		}
		b = b[2+int(b[1]):]
	}
	switch {
	case len(b) == 0:
		return "", true
	case b[0] == typeCompress:
		return CauseCompressed, false
	case b[0] == typeUser: // we send none this way
		return CauseGarbage, false
	case b[0] != typePushPull:
		return "", false
	}
	ok, more := modest(b[1:])
	if !ok || more && whole {
		return CauseGarbage, false
	}
	return "", more
}

// modest reports whether a push/pull's head has the form that memberlist writes, a map
// of three fields, and announces no more than there can be.
func modest(b []byte) (ok, more bool) {
	if len(b) == 0 {
		return true, true
	}
	if b[0] != 0x83 {
		return false, false
	}
	b = b[1:]
	for range 3 {
		if len(b) == 0 {
			return true, true
		}
		n := int(b[0]) - 0xa0
		if n < 0 || n > 12 {
			return false, false
		}
		if len(b) < n+2 { // the name, and the first byte of the value
			return true, true
		}
		name, value := string(b[1:1+n]), b[1+n:]
		size, known := 1, value[0] <= 0x7f || name == "Join" && (value[0] == 0xc2 || value[0] == 0xc3)
		if i := slices.Index([]byte{0xcc, 0xcd, 0xce, 0xcf}, value[0]); i >= 0 {
			size, known = 1+1<<i, true
		}
		if !known {
			return false, false
		}
		if len(value) < size {
			return true, true
		}
		announced := uint64(value[0])
		if size > 1 {
			announced = binary.BigEndian.Uint64(append(make([]byte, 9-size, 8), value[1:size]...))
		}
		switch name {
		case "Nodes":
			ok = announced <= headNodes
		case "UserStateLen":
			ok = announced <= headState
		default:
			ok = name == "Join"
		}
		if !ok {
			return false, false
		}
		b = value[size:]
	}
	return true, false
}
