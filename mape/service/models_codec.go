package service

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/mape/plan"
)

// A service's models are on the disk as one record: a version, the step of the fine
// forecaster in nanoseconds, the end of the last step in unix seconds, and parts, each
// with its name in a byte and its length.
const (
	modelsVersion = 1
	modelsHeader  = 1 + 8 + 8

	partFine    = 1
	partCoarse  = 2
	partAdvisor = 3
	partKnee    = 4
	partSteers  = 5 // there: the knee steers; it has no bytes
)

var errModels = errors.New("unknown format")

// Marshal packs the models.
func (m *Models) Marshal() []byte {
	b := []byte{modelsVersion}
	b = binary.LittleEndian.AppendUint64(b, uint64(m.step))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.at.Unix()))
	b = appendPart(b, partFine, m.fine.Marshal())
	b = appendPart(b, partCoarse, m.coarse.Marshal())
	b = appendPart(b, partAdvisor, m.advisor.Marshal())
	b = appendPart(b, partKnee, m.Adaptive.Marshal())
	if m.Lesson.Steers {
		b = appendPart(b, partSteers, nil)
	}
	return b
}

func appendPart(b []byte, name byte, part []byte) []byte {
	b = append(b, name)
	b = binary.AppendUvarint(b, uint64(len(part)))
	return append(b, part...)
}

// unmarshalModels reads what Marshal wrote. Parts of unknown names are a later
// version's and are left out.
func unmarshalModels(b []byte, now time.Time, step time.Duration) (*Models, error) {
	if len(b) < modelsHeader || b[0] != modelsVersion {
		return nil, fmt.Errorf("cannot read models: %w: %d bytes", errModels, len(b))
	}
	if was := time.Duration(binary.LittleEndian.Uint64(b[1:])); was != step {
		return nil, fmt.Errorf("cannot use stored models: their step is %s, the current one is %s", was, step)
	}
	m := newModels(now, step)
	m.at = time.Unix(int64(binary.LittleEndian.Uint64(b[9:])), 0)
	if m.at.After(now) { // the clock was set back
		m.at = now
	}
	forecasters, steers := 0, false
	for b = b[modelsHeader:]; len(b) > 0; {
		name := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return nil, fmt.Errorf("cannot read models: %w: part %d", errModels, name)
		}
		part := b[1+n : 1+n+int(size)]
		b = b[1+n+int(size):]
		var err error
		switch name {
		case partFine:
			err = m.fine.Unmarshal(part)
			forecasters++
		case partCoarse:
			err = m.coarse.Unmarshal(part)
			forecasters++
		case partKnee:
			err = m.Adaptive.Unmarshal(part)
		case partSteers:
			steers = true
		case partAdvisor:
			m.advisor, err = plan.UnmarshalRecommender(part)
			if err == nil && m.advisor.Step() != step {
				err = fmt.Errorf("%w: steps of %s", errModels, m.advisor.Step())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read models: %w", err)
		}
	}
	if forecasters != 2 {
		return nil, fmt.Errorf("cannot read models: %w: a part is missing or duplicated", errModels)
	}
	m.Adaptive.Keep(steers)
	m.update()
	return m, nil
}
