package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// CopyName is the name of the second file in Options.Dir. It holds the original limits
// once more, because they cannot be found elsewhere after the knowledge file was lost.
const CopyName = "originals.json"

const (
	copyVersion = 1
	// copySlack is how many lines more than twice the records the file may have.
	copySlack = 100
	// maxCopy bounds what is read: 10,000 records have some 4 MiB.
	maxCopy = 64 << 20
)

// originalsCopy is the second file. A line is a CRC-32C in hexadecimal, a blank and JSON:
// first the node that wrote the file, then one original, or the id of one that was dropped. A line is
// appended and synced for each change; the file is written anew, and renamed, when it has
// too many lines or is not as it was left.
type originalsCopy struct {
	path  string
	size  int64 // as this process left it
	lines int
	stale bool   // it lacks something
	why   string // the fault that made it stale; "": none
	retry time.Time
}

// copyLine is one line; the fields of the first line are set in that alone.
type copyLine struct {
	Version int              `json:"version,omitempty"`
	Node    knowledge.NodeID `json:"node,omitempty"`
	// Lost is when a knowledge file was lost last.
	Lost time.Time `json:"lost,omitzero"`

	Original *knowledge.Original   `json:"original,omitempty"`
	Drop     knowledge.ContainerID `json:"drop,omitempty"`
}

// copied is what the second file holds.
type copied struct {
	found bool // there is one, and a node wrote it
	node  knowledge.NodeID
	lost  time.Time
	all   map[knowledge.ContainerID]knowledge.Original
	bad   int // damaged lines
	lines int
	size  int64
}

func encodeLine(b []byte, l *copyLine) []byte {
	text, err := json.Marshal(l)
	if err != nil {
		return b // its types have no field that JSON refuses
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
	return append(append(b, text...), '\n')
}

func decodeLine(line []byte) (l copyLine, ok bool) {
	sum, text, cut := bytes.Cut(line, []byte(" "))
	n, err := strconv.ParseUint(string(sum), 16, 32)
	if !cut || err != nil || uint32(n) != crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) {
		return l, false
	}
	return l, json.Unmarshal(text, &l) == nil
}

// read reads the file. What is damaged is left out and counted.
func (f *originalsCopy) read() (c copied, err error) {
	c.all = map[knowledge.ContainerID]knowledge.Original{}
	h, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	b, err := io.ReadAll(io.LimitReader(h, maxCopy))
	if err = errors.Join(err, h.Close()); err != nil {
		return c, err
	}
	c.size = int64(len(b))
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		c.lines++
		l, ok := decodeLine(line)
		switch {
		case !ok:
			c.bad++
		case l.Version > 0:
			c.node, c.lost = l.Node, l.Lost
		case l.Original != nil:
			c.all[l.Original.ID] = *l.Original
		default:
			delete(c.all, l.Drop)
		}
	}
	if len(b) > 0 && b[len(b)-1] != '\n' && c.bad > 0 {
		c.bad-- // the last write was cut off by the end of the process, before it was acknowledged
	}
	c.found = c.node != "" || len(c.all) > 0 || c.bad > 0
	return c, nil
}

// append adds a line; false: the file has to be written anew.
func (f *originalsCopy) append(l *copyLine) bool {
	h, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer h.Close()
	if fi, err := h.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() != f.size {
		return false
	}
	b := encodeLine(nil, l)
	if _, err := h.Write(b); err != nil {
		return false
	}
	if h.Sync() != nil {
		return false
	}
	f.size += int64(len(b))
	f.lines++
	return true
}

// rewrite makes the file from its first line and all originals.
func (f *originalsCopy) rewrite(first copyLine, all map[knowledge.ContainerID]knowledge.Original) error {
	first.Version = copyVersion
	b := encodeLine(nil, &first)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		o := all[id]
		b = encodeLine(b, &copyLine{Original: &o})
	}
	next := f.path + ".new"
	h, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = h.Write(b)
	if err == nil {
		err = h.Sync()
	}
	if err = errors.Join(err, h.Close()); err != nil {
		_ = os.Remove(next) // it takes room on a full disk
		return err
	}
	if err := os.Rename(next, f.path); err != nil {
		return err
	}
	f.size, f.lines = int64(len(b)), len(all)+1
	return syncDir(filepath.Dir(f.path))
}

// copyOriginal brings one change into the second file. s.mu is held.
func (s *Store) copyOriginal(l *copyLine) {
	c := &s.copy
	if !c.stale && c.lines < 2*len(s.Originals.all)+copySlack && c.append(l) {
		return
	}
	c.stale = true
	s.settleCopy()
}

// settleCopy writes the second file anew where it lacks something. A fault is logged once,
// is in Health, and is tried again with the next write after a while. s.mu is held.
func (s *Store) settleCopy() {
	c := &s.copy
	if !c.stale || s.opt.Now().Before(c.retry) {
		return
	}
	err := c.rewrite(copyLine{Node: s.identity.Node, Lost: s.lost}, s.Originals.all)
	if err == nil {
		if c.why != "" {
			s.log.Info().Str("file", c.path).Msg("the copy of the original limits is written again")
		}
		c.stale, c.why, c.retry = false, "", time.Time{}
		return
	}
	if c.why == "" {
		s.log.Warn().Err(err).Str("file", c.path).
			Msg("cannot write the copy of the original limits: the knowledge file alone has them, retrying")
	}
	c.why, c.retry = s.describe(err), s.opt.Now().Add(retryEvery)
}

// reconcile compares the knowledge file with the second one after Open, and takes from that
// what the knowledge file does not have. s.mu is held.
func (s *Store) reconcile(out *Opened) {
	c, err := s.copy.read()
	if err != nil {
		s.log.Warn().Err(err).Str("file", s.copy.path).Msg("cannot read the copy of the original limits")
	}
	if c.bad > 0 {
		s.log.Warn().Str("file", s.copy.path).Int("lines", c.bad).
			Msg("dropped damaged records of the copy of the original limits")
	}
	if c.lost.After(s.lost) {
		s.lost = c.lost
	}
	had, missed := s.identity.Node != "", 0
	// Another node's copy: the knowledge file was replaced, by a version that does not
	// know of the copy. What that version took for original came later.
	replaced := had && c.node != "" && c.node != s.identity.Node
	for id, o := range c.all {
		if _, have := s.Originals.all[id]; have && !replaced || len(o.ID) > maxWord {
			continue
		}
		missed++
		s.Originals.all[id] = o
		s.stageJSON(cell{bucketOriginals, string(id)}, o)
	}
	for at := range s.file.bad {
		if at.bucket == bucketOriginals {
			if _, have := s.Originals.all[knowledge.ContainerID(at.key)]; !have {
				replaced = true // one original is lost
			}
		}
	}
	gone := c.found && s.file.created && s.file.db != nil
	lost := out.SetAside != "" || replaced || gone
	if lost {
		s.setLost(s.opt.Now())
	}
	if out.Why == "" && gone {
		out.Why = "it was missing"
	}
	if lost || missed > 0 {
		s.log.Warn().Int("originals", missed).Str("file", s.copy.path).
			Msg("original limits taken from the copy, which the knowledge file did not have")
	}
	s.copy.size, s.copy.lines = c.size, c.lines
	s.copy.stale = err != nil || c.bad > 0 || !maps.Equal(c.all, s.Originals.all) || c.node != s.identity.Node ||
		!c.lost.Equal(s.lost)
	if s.waits() && s.trouble.why == "" {
		_ = s.write(nil) // the error is in Health, and the log has it
	}
	s.settleCopy()
}

func (s *Store) setLost(at time.Time) {
	s.lost = at.UTC().Truncate(time.Second)
	s.stageJSON(cell{bucketMeta, keyLost}, s.lost)
	s.copy.stale = true
}

// Lost is when knowledge was lost last, so that a container of before without a record here
// may have been changed; zero: never.
func (l *Originals) Lost() time.Time {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.lost
}

// NoteLoss records that earlier knowledge is lost: something else in the directory shows that
// there was some.
func (l *Originals) NoteLoss(at time.Time) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.closed {
		return ErrClosed
	}
	l.s.setLost(at)
	return l.s.write(nil)
}
