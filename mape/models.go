package mape

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

// A service's models are on the disk as one record: a version, the step of the fine
// forecaster in nanoseconds, up to where it was told in unix seconds, and parts,
// each with its name in a byte and its length.
const (
	modelsVersion = 1
	modelsHeader  = 1 + 8 + 8

	partFine    = 1
	partCoarse  = 2
	partAdvisor = 3
	partKnee    = 4
	partSteers  = 5 // there: the knee steers; it has no bytes

	// modelsApart spaces the records of one service: at 64 services of 64 KB 7 KB a
	// second. A kill costs what came since.
	modelsApart = 10 * time.Minute
)

var errModels = errors.New("bytes of another format")

func (f *foresight) marshal() []byte {
	b := []byte{modelsVersion}
	b = binary.LittleEndian.AppendUint64(b, uint64(f.step))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.at.Unix()))
	b = appendPart(b, partFine, f.fine.Marshal())
	b = appendPart(b, partCoarse, f.coarse.Marshal())
	b = appendPart(b, partAdvisor, f.advisor.Marshal())
	b = appendPart(b, partKnee, f.adaptive.Marshal())
	if f.lesson.Steers {
		b = appendPart(b, partSteers, nil)
	}
	return b
}

func appendPart(b []byte, name byte, part []byte) []byte {
	b = append(b, name)
	b = binary.AppendUvarint(b, uint64(len(part)))
	return append(b, part...)
}

// unmarshalForesight reads what marshal wrote. Parts of unknown names are a later
// version's and are left out.
func unmarshalForesight(b []byte, now time.Time, step time.Duration) (*foresight, error) {
	if len(b) < modelsHeader || b[0] != modelsVersion {
		return nil, fmt.Errorf("cannot read models: %w: %d bytes", errModels, len(b))
	}
	if was := time.Duration(binary.LittleEndian.Uint64(b[1:])); was != step {
		return nil, fmt.Errorf("cannot use models of steps of %s: they are %s now", was, step)
	}
	f := newForesight(now, step)
	f.at = time.Unix(int64(binary.LittleEndian.Uint64(b[9:])), 0)
	if f.at.After(now) { // the clock was set back
		f.at = now
	}
	have, steers := 0, false
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
			err = f.fine.Unmarshal(part)
			have++
		case partCoarse:
			err = f.coarse.Unmarshal(part)
			have++
		case partKnee:
			err = f.adaptive.Unmarshal(part)
		case partSteers:
			steers = true
		case partAdvisor:
			f.advisor, err = plan.UnmarshalRecommender(part)
			if err == nil && f.advisor.Step() != step {
				err = fmt.Errorf("%w: steps of %s", errModels, f.advisor.Step())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read models: %w", err)
		}
	}
	if have != 2 {
		return nil, fmt.Errorf("cannot read models: %w: a part is missing or there twice", errModels)
	}
	f.adaptive.Keep(steers)
	f.look()
	return f, nil
}

// restoreModels takes over the models of earlier lives, the newest where they are
// too many. Those that cannot be read are learned again; those of a week ago are of
// something else.
func (l *Loop) restoreModels() {
	type left struct {
		key knowledge.ServiceKey
		*foresight
	}
	var all []left
	for key, b := range l.o.Restored.Models {
		f, err := unmarshalForesight(b, l.begin, l.set.DeliberateEvery)
		switch {
		case err != nil:
			l.o.Log.Warn().Err(err).Str("service", string(key)).Msg("what was forecast is learned again")
		case l.begin.Sub(f.at) <= longestGap:
			all = append(all, left{key, f})
		}
	}
	slices.SortFunc(all, func(a, b left) int { return b.at.Compare(a.at) })
	for _, f := range all[:min(len(all), foresightsMost)] {
		f.recall(l.o.Restored.Recent[f.key], l.begin)
		f.wroteAt = l.begin.Add(-spread(f.key, modelsApart))
		l.service(f.key).foresight = f.foresight
		l.foresights++
	}
}

// packModels takes the models that changed and were not written of late.
func (l *Loop) packModels(now time.Time, all bool) map[knowledge.ServiceKey][]byte {
	out := map[knowledge.ServiceKey][]byte{}
	for key, s := range l.services {
		f := s.foresight
		if f == nil || !f.dirty || !all && now.Sub(f.wroteAt) < modelsApart {
			continue
		}
		f.dirty, f.wroteAt = false, now
		out[key] = f.marshal()
	}
	return out
}

// spread is a part of a span that is each service's own, so that they are not all
// written at once.
func spread(key knowledge.ServiceKey, span time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	return time.Duration(h.Sum32()%1000) * span / 1000
}
