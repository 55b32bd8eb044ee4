package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/effiscale/effiscale/knowledge"
)

// Protocol is the version of the messages between nodes.
const Protocol = 1

// State is a node's own state. Only participants own services.
type State uint8

// The states. The zero value is the safe one: a node with an unknown state owns nothing.
const (
	Waiting     State = iota // just started, stalled, disconnected or flapping
	Participant              // may own services
	Leaving                  // releases what it owns
)

// String is the state in lower case.
func (s State) String() string {
	switch s {
	case Participant:
		return "participant"
	case Leaving:
		return "leaving"
	default:
		return "waiting"
	}
}

// Bounds on metadata from the network. All strings at their longest
// and all numbers at their largest are 378 bytes, and 119 of padding: memberlist takes 512.
const (
	maxName  = 64
	maxZone  = 64
	maxBuild = 32
	maxRelay = 128
	maxMeta  = 512
	maxCores = 65536 * knowledge.OneCPU
)

// Meta is what gossip carries of each node.
type Meta struct {
	Name     string // unique in a cluster; 1 to 64 bytes
	Zone     string // to 64 bytes
	Version  string // of the program, to 32 bytes
	Protocol uint8
	Features uint32 // bits; Members sets FeatureSettled
	State    State
	Relay    string // host:port of the relay, to 128 bytes
	Cores    knowledge.NanoCPU
	Memory   knowledge.Bytes
	Load     uint8  // percent of the host's CPU in use
	Services uint32 // owned
	Ring     uint64 // checksum of the node's ring
	Started  int64  // unix seconds; numbers the starts of the node
	// Keys are fingerprints of the gossip keys that the node has, the one that it
	// uses first: see KeyNames. Members fills it in.
	Keys [4]uint32
	// Voters is the node's list of voters, with FeatureVoters.
	Voters Voters
}

// Voters are the numbers of the list of voters in which a node votes, and of the next one that
// it has accepted or follows (the same where there is none), the checksum of the first, and
// when its cluster began.
type Voters struct {
	Number, Next, Sum, Origin uint64
}

// FeatureSettled: the node has participated since it started. It is set with the first
// Participant and stays: a node that stalls or is disconnected later is no newcomer.
const FeatureSettled uint32 = 1

// FeatureUnfit: the node cannot write terms down now, or cannot be called. It owns nothing
// while any other node can, also where most wait.
const FeatureUnfit uint32 = 2

// FeatureViews is that of earlier versions: they agree on voters in another way, and
// gossip four numbers for it.
const FeatureViews uint32 = 1 << 2

// FeatureVoters: the node has a list of voters, and answers proposals for the next one.
const FeatureVoters uint32 = 1 << 9

// Unfit: the node cannot own anything.
func (m Meta) Unfit() bool { return m.Features&FeatureUnfit != 0 }

// settled: the node had participated when it sent this.
func (m Meta) settled() bool { return m.Features&FeatureSettled != 0 }

// voters are the numbers of Voters as they are packed. An earlier version has the number
// in force, the newest that it agreed to, the checksum of the newest, and of that in force.
func (m *Meta) voters() []*uint64 {
	switch v := &m.Voters; {
	case m.Features&FeatureVoters != 0:
		return []*uint64{&v.Number, &v.Next, &v.Sum, &v.Origin}
	case m.Features&FeatureViews != 0:
		return []*uint64{&v.Number, &v.Next, &v.Sum, &v.Sum}
	}
	return nil
}

// KeyNames are the fingerprints of the node's keys as Members.Keys has them.
func (m Meta) KeyNames() []string {
	var names []string
	for _, k := range m.Keys {
		if k != 0 {
			names = append(names, fmt.Sprintf("%08x", k))
		}
	}
	return names
}

// metaFormat is the first byte. A reader takes longer metadata of the same format
// and skips what it does not know, so that new fields can be added at the end.
const metaFormat = 1

var errMeta = errors.New("malformed metadata")

// Pack writes the metadata. An error names the field that is out of bounds.
func (m Meta) Pack() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b := make([]byte, 1, maxMeta)
	b[0] = metaFormat
	for _, s := range []string{m.Name, m.Zone, m.Version, m.Relay} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	b = append(b, m.Protocol, byte(m.State), m.Load)
	for _, n := range []uint64{
		uint64(m.Features), uint64(m.Cores), uint64(m.Memory), uint64(m.Services), uint64(m.Started),
	} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.BigEndian.AppendUint64(b, m.Ring)
	for _, k := range m.Keys {
		b = binary.BigEndian.AppendUint32(b, k)
	}
	for _, n := range m.voters() {
		b = binary.BigEndian.AppendUint64(b, *n)
	}
	return b, nil
}

// Unpack reads what Pack or a newer one wrote; strangers may send anything.
func Unpack(b []byte) (Meta, error) {
	r := reader{b: b}
	if len(b) > maxMeta || r.byte() != metaFormat {
		return Meta{}, errMeta
	}
	m := Meta{Name: r.string(), Zone: r.string(), Version: r.string(), Relay: r.string()}
	m.Protocol, m.State, m.Load = r.byte(), State(r.byte()), r.byte()
	features := r.uvarint(math.MaxUint32)
	cores, memory := r.uvarint(uint64(maxCores)), r.uvarint(uint64(knowledge.MaxBytes))
	m.Features, m.Cores, m.Memory = uint32(features), knowledge.NanoCPU(cores), knowledge.Bytes(memory)
	m.Services, m.Started = uint32(r.uvarint(math.MaxUint32)), int64(r.uvarint(math.MaxInt64))
	if ring := r.take(8); r.err == nil {
		m.Ring = binary.BigEndian.Uint64(ring)
	}
	for i := range m.Keys {
		if key := r.take(4); r.err == nil {
			m.Keys[i] = binary.BigEndian.Uint32(key)
		}
	}
	for _, n := range m.voters() { // an older version has zeros there, or nothing
		if v := r.take(8); r.err == nil {
			*n = binary.BigEndian.Uint64(v)
		}
	}
	if r.err != nil {
		return Meta{}, r.err
	}
	if m.State > Leaving {
		m.State = Waiting // of a newer version
	}
	if err := m.check(); err != nil {
		return Meta{}, fmt.Errorf("%w: %w", errMeta, err)
	}
	return m, nil
}

// check holds the metadata against its bounds.
func (m Meta) check() error {
	if m.Name == "" {
		return errors.New("a node needs a name")
	}
	for _, s := range []struct {
		what, text string
		most       int
	}{
		{"name", m.Name, maxName}, {"zone", m.Zone, maxZone}, {"version", m.Version, maxBuild}, {"relay", m.Relay, maxRelay},
	} {
		if len(s.text) > s.most {
			return fmt.Errorf("the %s of a node is longer than %d bytes", s.what, s.most)
		}
		if !printable(s.text) {
			return fmt.Errorf("the %s of a node has characters that cannot be printed: %q", s.what, s.text)
		}
	}
	if m.Relay != "" {
		if _, port, err := net.SplitHostPort(m.Relay); err != nil {
			return fmt.Errorf("the relay of a node is not host:port: %q", m.Relay)
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("the relay of a node has no port: %q", m.Relay)
		}
	}
	switch {
	case m.Cores < 0 || m.Cores > maxCores:
		return fmt.Errorf("a node cannot have %v cores", m.Cores)
	case m.Memory < 0 || m.Memory > knowledge.MaxBytes:
		return fmt.Errorf("a node cannot have %d bytes of memory", int64(m.Memory))
	case m.Load > 100:
		return fmt.Errorf("a load of %d percent is above 100", m.Load)
	case m.Started < 0:
		return errors.New("a node cannot have started before 1970")
	}
	return nil
}

// printable: it may be shown in a terminal.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// reader takes values off the front of b; after the first error all are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.err = errMeta
		return nil
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) byte() byte {
	if b := r.take(1); r.err == nil {
		return b[0]
	}
	return 0
}

func (r *reader) string() string { return string(r.take(int(r.byte()))) }

func (r *reader) uvarint(most uint64) uint64 {
	if r.err != nil {
		return 0
	}
	n, k := binary.Uvarint(r.b)
	if k <= 0 || n > most {
		r.err = errMeta
		return 0
	}
	r.b = r.b[k:]
	return n
}
