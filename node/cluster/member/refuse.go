package member

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Cause is why something of a stranger was refused.
type Cause string

// The causes.
const (
	CauseKey        Cause = "key"        // encrypted with a key that this node has not
	CausePlaintext  Cause = "plaintext"  // not encrypted, and it must be
	CauseEncrypted  Cause = "encrypted"  // encrypted, and this node has no key
	CauseCluster    Cause = "cluster"    // another cluster's name
	CauseGarbage    Cause = "garbage"    // not gossip, or cut short
	CauseCompressed Cause = "compressed" // no node of ours compresses; bombs do
	CauseMeta       Cause = "metadata"   // of a member, unreadable
	CauseID         Cause = "id"         // of a member, not 32 hexadecimal digits
	CauseAddress    Cause = "address"    // a member that nobody can reach
	CauseNetwork    Cause = "network"    // outside of the networks allowed
	CauseCrowd      Cause = "crowd"      // too many members, or streams at once
)

// sentence says a cause of the node at an address to people.
func (c Cause) sentence(at, detail string) string {
	switch c {
	case CauseKey:
		return fmt.Sprintf("a node at %s has another cluster key: refused", at)
	case CausePlaintext:
		return fmt.Sprintf("a node at %s does not encrypt, it has no cluster key: refused", at)
	case CauseEncrypted:
		return fmt.Sprintf("a node at %s has a cluster key and this one has none: refused", at)
	case CauseCluster:
		return fmt.Sprintf("a node at %s is of another cluster, %s: refused", at, detail)
	case CauseCompressed:
		return fmt.Sprintf("something at %s sends compressed gossip, which no node does: refused", at)
	case CauseMeta, CauseID:
		return fmt.Sprintf("the node %s is not understood: refused, %s", at, detail)
	case CauseAddress:
		return fmt.Sprintf("the node %s says that it is reached at %s, which cannot be: refused", at, detail)
	case CauseNetwork:
		return fmt.Sprintf("a node at %s is in no network that is allowed: refused", at)
	case CauseCrowd:
		return fmt.Sprintf("too many at once from %s: refused, %s", at, detail)
	default:
		return fmt.Sprintf("something at %s sends what is not gossip, or breaks off: refused", at)
	}
}

// Counts are what happened since Open.
type Counts struct {
	Refused                            map[Cause]uint64
	RefusedAt                          map[Cause]time.Time // the newest
	RefusedOf                          map[Cause]string    // address or id of the newest
	Joins, Leaves, Failures, Conflicts uint64
}

const (
	// quiet is how long the same is not said again.
	quiet = time.Minute
	// maxSaid bounds what is remembered of it, and so the lines in a minute:
	// strangers can have many addresses.
	maxSaid = 64
)

// said is a line that was written, and how often it was not since.
type said struct {
	at    time.Time
	times int
}

// refusals counts what was refused and says so, once a minute for each cause and
// address. It is memberlist's log as well: much is to be learned there only.
type refusals struct {
	log zerolog.Logger
	now func() time.Time
	// suspect is told of a member that did not answer this node.
	suspect func(id string)
	// called is what people call a member.
	called func(id string) string

	mu     sync.Mutex // guards all below; nothing is called with it but the logger
	counts map[Cause]uint64
	newest map[Cause]time.Time
	of     map[Cause]string // who the newest was
	said   map[string]said
}

func newRefusals(log zerolog.Logger, now func() time.Time) *refusals {
	return &refusals{log: log, now: now, suspect: func(string) {}, called: func(id string) string { return id }, counts: map[Cause]uint64{}, newest: map[Cause]time.Time{}, of: map[Cause]string{}, said: map[string]said{}}
}

// note counts a refusal; at is the address or the id of who sent it.
func (r *refusals) note(c Cause, at, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[c]++
	r.newest[c], r.of[c] = r.now(), at
	if times, ok := r.may(string(c) + " " + at); ok {
		level := zerolog.WarnLevel
		if c == CauseGarbage {
			level = zerolog.InfoLevel
		}
		r.log.WithLevel(level).Str("cause", string(c)).Int("times", times).Msg(c.sentence(at, detail))
	}
}

// say writes a line unless the same key had one in the last minute.
func (r *refusals) say(level zerolog.Level, key, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if times, ok := r.may(key); ok {
		r.log.WithLevel(level).Int("times", times).Msg(text)
	}
}

// may reports whether a line is due, and how many it stands for. mu is held.
func (r *refusals) may(key string) (int, bool) {
	now := r.now()
	s, ok := r.said[key]
	if ok && now.Sub(s.at) < quiet {
		s.times++
		r.said[key] = s
		return 0, false
	}
	if !ok && len(r.said) >= maxSaid {
		maps.DeleteFunc(r.said, func(_ string, s said) bool { return now.Sub(s.at) >= quiet })
		if len(r.said) >= maxSaid {
			return 0, false
		}
	}
	r.said[key] = said{at: now}
	return s.times + 1, true
}

// snapshot is what was refused, when last, and who that was.
func (r *refusals) snapshot() (map[Cause]uint64, map[Cause]time.Time, map[Cause]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts), maps.Clone(r.newest), maps.Clone(r.of)
}

// lines maps parts of memberlist's log lines to causes, the first that fits.
func lines() []struct {
	part  string
	cause Cause
} {
	return []struct {
		part  string
		cause Cause
	}{
		{otherKey, CauseKey},
		{"remote state is not encrypted", CausePlaintext},
		{"encryption is not configured", CauseEncrypted},
		{"unacceptable label", CauseCluster},
		{"Decrypt packet failed", CauseGarbage},
		{"failed to receive", CauseGarbage},
		{"Failed to receive", CauseGarbage},
		{"Failed to decode", CauseGarbage},
		{"Failed to decompress", CauseGarbage},
		{"Failed to read remote state", CauseGarbage},
		{"invalid msgType", CauseGarbage},
		{"not supported", CauseGarbage},
		{"invalid checksum", CauseGarbage},
		{"truncated", CauseGarbage},
		{"missing message type", CauseGarbage},
		{"label header", CauseGarbage},
	}
}

// Write takes one line of memberlist's log. It never fails.
func (r *refusals) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b[:min(len(b), 1024)]))
	if rest, ok := strings.CutPrefix(line, "[INFO] memberlist: Suspect "); ok {
		id, _, _ := strings.Cut(rest, " ")
		r.suspect(id)
	}
	text := line
	if _, rest, ok := strings.Cut(line, "] memberlist: "); ok {
		text = rest
	}
	if rest, ok := strings.CutPrefix(text, "Was able to connect to "); ok {
		id, _, _ := strings.Cut(rest, " ")
		r.say(zerolog.WarnLevel, "udp "+id, "the node "+r.called(id)+" answers by TCP and not by UDP: packets are lost, or blocked on its port")
		return len(b), nil
	}
	if _, from, ok := strings.Cut(text, "from="); ok && !strings.HasPrefix(line, "[DEBUG]") {
		at := hostOf(strings.TrimSpace(from))
		for _, l := range lines() {
			if strings.Contains(text, l.part) {
				cause, detail := l.cause, ""
				if cause == CauseCluster {
					cause, detail = clusterOf(text)
				}
				r.note(cause, at, detail)
				return len(b), nil
			}
		}
	}
	r.log.Debug().Msg(text)
	return len(b), nil
}

// clusterOf is the label in memberlist's line; who sends none sends no gossip of ours.
func clusterOf(text string) (Cause, string) {
	_, rest, _ := strings.Cut(text, `label "`)
	label, _, _ := strings.Cut(rest, `"`)
	if label == "" {
		return CauseGarbage, ""
	}
	return CauseCluster, fmt.Sprintf("%.64q", label)
}

// hostOf is an address without its port: strangers change that.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
