package store

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Bounds of the strings in a record: they come from labels, the Engine and users.
const (
	maxWord = 256
	maxNote = 512
	maxKey  = 256
)

// checksum covers bucket, key and payload, so that a value in another's place is
// noticed as well as a changed one.
func checksum(c cell, payload []byte) uint32 {
	var b [maxWord + 16]byte // longer keys exist in damaged files only
	table := crc32.MakeTable(crc32.Castagnoli)
	place := append(append(append(b[:0], c.bucket...), '/'), c.key...)
	return crc32.Update(crc32.Update(0, table, place), table, payload)
}

// seal is the value stored under c for a payload in parts: CRC-32C, then the payload.
func seal(c cell, parts ...[]byte) []byte {
	n := 4
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 4, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.LittleEndian.PutUint32(b, checksum(c, b[4:]))
	return b
}

// unseal is the payload of a stored value, still in the mapped file; false: it
// was damaged.
func unseal(c cell, value []byte) ([]byte, bool) {
	if len(value) < 4 || binary.LittleEndian.Uint32(value) != checksum(c, value[4:]) {
		return nil, false
	}
	return value[4:], true
}

// stamp is a time of writing, in unix seconds; it comes before the data.
func stamp(at time.Time) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(at.Unix()))
}

func unstamp(payload []byte) (at time.Time, data []byte, ok bool) {
	if len(payload) < 8 {
		return time.Time{}, nil, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(payload)), 0), payload[8:], true
}

// seqKey orders the journal by sequence number.
func seqKey(seq uint64) string {
	return string(binary.BigEndian.AppendUint64(nil, seq))
}

func seqOf(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

// line is a record in the journal: knowledge.Record with short keys. The sequence
// number is the key of its value. Enumerations are strings here, so that a line of a
// newer version is read as far as it is understood.
type line struct {
	Kind     knowledge.ActionKind  `json:"p,omitempty"` // empty: resize, the only kind of the first versions
	ID       knowledge.ContainerID `json:"i"`
	Name     string                `json:"n,omitempty"`
	Service  knowledge.ServiceKey  `json:"s,omitempty"`
	Resource string                `json:"r,omitempty"`
	Verb     string                `json:"v,omitempty"`
	Actor    string                `json:"a"`
	At       int64                 `json:"t"` // unix nanoseconds
	From     int64                 `json:"f,omitempty"`
	To       int64                 `json:"o,omitempty"`
	Rule     knowledge.Rule        `json:"y,omitempty"`
	Args     []float64             `json:"g,omitempty"` // without the last zeros
	Note     string                `json:"q,omitempty"`
	Count    int                   `json:"c,omitempty"`
	Start    bool                  `json:"b,omitempty"`
	Key      string                `json:"k,omitempty"`
	Detail   json.RawMessage       `json:"z,omitempty"` // of the kinds other than resize

	Result  string `json:"x"`
	Ended   int64  `json:"e,omitempty"` // unix nanoseconds
	Took    int64  `json:"d,omitempty"` // nanoseconds
	Kernel  int64  `json:"h,omitempty"`
	Engine  int64  `json:"m,omitempty"`
	Message string `json:"w,omitempty"`
}

func encodeRecord(r knowledge.Record) ([]byte, error) {
	a, o := r.Action, r.Outcome
	l := line{
		Kind: a.Kind, ID: bounded(a.ID, maxWord), Name: bounded(a.Name, maxWord), Service: bounded(a.Service, maxWord),
		Actor: a.Actor.String(), At: nanos(a.At),
		Rule: bounded(a.Reason.Rule, maxWord), Args: numbers(a.Reason.Args[:]), Note: bounded(a.Reason.Note, maxNote),
		Key: a.Key, Result: o.Result.String(), Ended: nanos(o.At), Took: int64(o.Took), Kernel: o.Kernel, Engine: o.Engine,
		Message: bounded(o.Message, maxNote),
	}
	if a.Kind == knowledge.ActionResize {
		c := a.Resize
		l.Kind, l.Resource, l.Verb = "", c.Resource.String(), c.Verb.String()
		l.From, l.To, l.Count, l.Start = c.From, c.To, c.Count, c.Start
	} else if d := detail(&a); d != nil {
		var err error
		if l.Detail, err = json.Marshal(d); err != nil {
			return nil, fmt.Errorf("cannot encode action %d: %w", a.Seq, err)
		}
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("cannot encode action %d: %w", a.Seq, err)
	}
	return b, nil
}

// detail is the struct that holds what is particular to the kind of an action; nil:
// there is none, or it is part of the line.
func detail(a *knowledge.Action) any {
	switch a.Kind {
	case knowledge.ActionCreate:
		a.Create.Image = bounded(a.Create.Image, maxWord)
		return &a.Create
	case knowledge.ActionStop:
		return &a.Stop
	case knowledge.ActionRemove:
		return &a.Remove
	case knowledge.ActionRestart:
		return &a.Restart
	}
	return nil
}

func decodeRecord(seq uint64, b []byte) (knowledge.Record, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return knowledge.Record{}, fmt.Errorf("cannot decode action %d: %w", seq, err)
	}
	r := knowledge.Record{
		Action: knowledge.Action{
			Seq: seq, Kind: cmp.Or(l.Kind, knowledge.ActionResize), ID: l.ID, Name: l.Name, Service: l.Service,
			At: instant(l.At), Reason: knowledge.Reason{Rule: l.Rule, Note: l.Note}, Key: l.Key,
		},
		Outcome: knowledge.Outcome{
			At: instant(l.Ended), Took: time.Duration(l.Took), Kernel: l.Kernel, Engine: l.Engine, Message: l.Message,
		},
	}
	a := &r.Action
	copy(a.Reason.Args[:], l.Args)
	a.Newer = !a.Kind.Known()
	known := func(ok bool) { a.Newer = a.Newer || !ok }
	known(word(&a.Actor, l.Actor))
	known(word(&r.Outcome.Result, l.Result))
	if a.Kind == knowledge.ActionResize {
		a.Resize.From, a.Resize.To, a.Resize.Count, a.Resize.Start = l.From, l.To, l.Count, l.Start
		known(word(&a.Resize.Resource, l.Resource))
		known(word(&a.Resize.Verb, l.Verb))
	} else if d := detail(a); d != nil {
		known(json.Unmarshal(l.Detail, d) == nil)
	}
	if r.Outcome.Result != knowledge.ResultOpen || l.Ended != 0 {
		r.Outcome.Seq = seq
	}
	return r, nil
}

// word reads a name of an enumeration. One of a newer version becomes a value out of
// range, which prints as unknown.
func word[T ~uint8, P interface {
	*T
	UnmarshalText([]byte) error
}](v P, s string) (known bool) {
	if v.UnmarshalText([]byte(s)) == nil {
		return true
	}
	*v = math.MaxUint8
	return false
}

// numbers drops the zeros at the end, and what JSON cannot carry.
func numbers(args []float64) []float64 {
	out := make([]float64, len(args))
	n := 0
	for i, v := range args {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			v = 0
		}
		if out[i] = v; v != 0 {
			n = i + 1
		}
	}
	return out[:n]
}

// bounded cuts s to n bytes without cutting a character in two.
func bounded[T ~string](s T, n int) T { return T(strings.ToValidUTF8(string(s[:min(len(s), n)]), "")) }

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
