package analyse

import (
	"encoding/binary"
	"fmt"
	"math"
)

const (
	targetVersion  = 1
	targetLoadSize = 2 + 1 + 1 + 1 + targetArms*(4+2)
	// TargetSize is the length of an encoded TargetLearner.
	TargetSize = 4 + targetLoads*targetLoadSize
)

// MarshalBinary packs what was learned into TargetSize bytes, little-endian.
func (l *TargetLearner) MarshalBinary() ([]byte, error) {
	le := binary.LittleEndian
	b := append(make([]byte, 0, TargetSize), targetVersion, l.load, byte(l.offset), l.probe)
	for _, c := range l.loads {
		b = le.AppendUint16(b, uint16(c.key))
		b = append(b, byte(c.offset), c.calm, c.wait)
		for _, a := range c.arms {
			b = le.AppendUint32(b, math.Float32bits(a.cost))
			b = le.AppendUint16(b, a.count)
		}
	}
	return b, nil
}

// UnmarshalBinary replaces what was learned. Bytes that MarshalBinary does not
// write are ErrEncoding, and l stays as it was.
func (l *TargetLearner) UnmarshalBinary(b []byte) error {
	if len(b) != TargetSize || b[0] != targetVersion || b[1] >= targetLoads || b[3] > targetTrial {
		return fmt.Errorf("cannot read throttle targets: %w", ErrEncoding)
	}
	le := binary.LittleEndian
	n := TargetLearner{load: b[1], offset: int8(b[2]), probe: b[3]}
	bad := !onLadder(n.offset)
	for i := range n.loads {
		p := b[4+i*targetLoadSize:]
		c := &n.loads[i]
		c.key, c.offset, c.calm, c.wait = int16(le.Uint16(p)), int8(p[2]), p[3], p[4]
		bad = bad || !onLadder(c.offset) || c.calm > targetWaitMost || c.wait > targetWaitMost
		for j := range c.arms {
			q := p[5+6*j:]
			c.arms[j] = targetArm{math.Float32frombits(le.Uint32(q)), le.Uint16(q[4:])}
			bad = bad || !(c.arms[j].cost >= 0 && c.arms[j].cost <= 12)
		}
	}
	if bad {
		return fmt.Errorf("cannot read throttle targets: %w", ErrEncoding)
	}
	*l = n
	return nil
}

func onLadder(offset int8) bool {
	return int(offset) >= -targetFirst && int(offset) < targetArms-targetFirst
}
