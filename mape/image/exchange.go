package image

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
)

// Bounds of what comes from other hosts, in bytes. An image's key has 81, a host's
// id 32, an Ed25519 signature 64.
const (
	maxImageKey = 128
	maxHost     = 64
	maxSeal     = 256
	// copyOverhead is what a Copy's encoding adds to its fields at most.
	copyOverhead = 48
)

// ErrCopy means that a copy from another host is malformed.
var ErrCopy = errors.New("invalid copy of an image's profile")

// CopyKey names one host's copy of an image's profile.
type CopyKey struct {
	Image knowledge.ImageKey
	Host  knowledge.NodeID
}

// StoredCopy is a packed profile and its host's signature over it; nil: none.
type StoredCopy struct{ Packed, Seal []byte }

// Copy is one host's copy of an image's profile as it travels. The seal is the host's
// signature over the rest, made by Sign; the receiver verifies it before Merge.
type Copy struct {
	Image   knowledge.ImageKey `cbor:"1,keyasint"`
	Host    knowledge.NodeID   `cbor:"2,keyasint"`
	Epoch   uint64             `cbor:"3,keyasint"`
	Version uint64             `cbor:"4,keyasint"`
	Packed  []byte             `cbor:"5,keyasint"`
	Seal    []byte             `cbor:"6,keyasint,omitempty"`
}

// Digest is the version of one copy that a node has. One of Version 0 is no copy: the
// node knows the image and asks for the copies of others. One without an image reports
// for how many further images (Epoch) and copies (Version) there is room; without it
// there is room for all.
type Digest struct {
	Image   knowledge.ImageKey `cbor:"1,keyasint,omitempty"`
	Host    knowledge.NodeID   `cbor:"2,keyasint,omitempty"`
	Epoch   uint64             `cbor:"3,keyasint"`
	Version uint64             `cbor:"4,keyasint"`
}

// Checksum is the same for two nodes that hold the same copies: then they need not
// exchange digests.
func Checksum(digests []Digest) (sum uint64) {
	var b []byte
	for _, d := range digests {
		if d.Version == 0 || d.Image == "" {
			continue
		}
		f := fnv.New64a()
		b = append(append(append(b[:0], d.Image...), '/'), d.Host...)
		b = strconv.AppendUint(append(b, '/'), d.Epoch, 36)
		b = strconv.AppendUint(append(b, '/'), d.Version, 36)
		_, _ = f.Write(b) // never fails
		sum += f.Sum64()
	}
	return sum
}

// publication is the own copy that a host gives to others: one that is on its disk,
// and not every one of those.
type publication struct {
	epoch, version uint64
	packed, seal   []byte
	at             time.Time
	last           time.Time     // when CPU was observed last
	observed       time.Duration // in all
}

func publish(now time.Time, p *profile.Profile, packed []byte) publication {
	return publication{
		epoch: p.Epoch, version: p.Version, packed: packed, at: now, last: p.Last(), observed: p.ObservedFor(),
	}
}

// outdated reports whether p is to be replaced by a newer one.
func (p *publication) outdated(by *publication) bool {
	return p.version == 0 || p.epoch != by.epoch || by.at.Sub(p.at) >= publishEvery ||
		by.observed-p.observed >= p.observed/growthPart
}

func (s *Set) seal(key knowledge.ImageKey, p *publication) []byte {
	if s.sign == nil {
		return nil
	}
	return s.sign(key, p.epoch, p.version, p.packed)
}

// current reports whether a copy still counts: its host observed something within
// copyTTL, by this host's clock. The time is part of what the host signed, so that
// the copy of a host that is gone ends on all nodes, however often they exchange it.
func current(last, now time.Time) bool {
	return !last.IsZero() && now.Sub(last) <= copyTTL && last.Sub(now) <= maxClockAhead
}

// inOrder are the images in use first, then those that were used last.
func (s *Set) inOrder() []knowledge.ImageKey {
	keys := make([]knowledge.ImageKey, 0, len(s.images))
	for key := range s.images {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b knowledge.ImageKey) int {
		switch used := s.images[a].containers > 0; {
		case used != (s.images[b].containers > 0):
			if used {
				return -1
			}
			return 1
		case used:
			return strings.Compare(string(a), string(b))
		}
		return s.byLastUse(b, a)
	})
	return keys
}

// count is how many images no container uses, and how many copies there are.
func (s *Set) count() (unused, copies int) {
	for _, i := range s.images {
		copies += i.shared.Len()
		if i.containers == 0 {
			unused++
		}
	}
	return unused, copies
}

// eachCopy yields the copies of an image that others may have, this host's first.
func (s *Set) eachCopy(now time.Time, key knowledge.ImageKey, i *Image, yield func(Digest, profile.Copy)) {
	if p := &i.published; p.version > 0 && current(p.last, now) {
		if p.seal == nil {
			p.seal = s.seal(key, p)
		}
		yield(Digest{key, s.self, p.epoch, p.version}, profile.Copy{Host: s.self, Seal: p.seal})
	}
	for c := range i.shared.All() {
		if c.Host == s.self || !current(c.Profile.Last(), now) || c.Seal == nil && s.sign != nil {
			continue
		}
		yield(Digest{key, c.Host, c.Profile.Epoch, c.Profile.Version}, c)
	}
}

// Digests are the versions of all copies that this node has, images in use first: at
// most 4096, at about 130 bytes 0.5 MB. The first one reports how much room there is.
func (s *Set) Digests(now time.Time) []Digest {
	unused, copies := s.count()
	room := Digest{
		Epoch:   uint64(max(min(maxUnused-unused, maxImages-len(s.images)), 0)),
		Version: uint64(max(maxCopies-copies, 0)),
	}
	if copies >= maxUnusedCopies {
		room.Epoch = 0
	}
	out := []Digest{room}
	for _, key := range s.inOrder() {
		i := s.images[key]
		if p := &i.published; (i.containers > 0 || i.observed) && (p.version == 0 || !current(p.last, now)) {
			out = append(out, Digest{Image: key, Host: s.self})
		}
		s.eachCopy(now, key, i, func(d Digest, _ profile.Copy) { out = append(out, d) })
	}
	return out[:min(len(out), maxCopies)]
}

// Peer is what another node has, by its digests.
type Peer struct {
	copies         map[CopyKey]Digest
	hosts          map[knowledge.ImageKey][]knowledge.NodeID
	images, others uint64 // for which it has room
}

// ReadDigests reads the digests of a peer, within bounds.
func ReadDigests(digests []Digest) *Peer {
	p := &Peer{
		copies: map[CopyKey]Digest{}, hosts: map[knowledge.ImageKey][]knowledge.NodeID{},
		images: maxImages, others: maxCopies,
	}
	for _, d := range digests[:min(len(digests), 2*maxCopies)] {
		if d.Image == "" {
			p.images, p.others = d.Epoch, d.Version
			continue
		}
		p.copies[CopyKey{d.Image, d.Host}] = d
		if hosts := p.hosts[d.Image]; len(hosts) <= profile.MaxHosts {
			p.hosts[d.Image] = append(hosts, d.Host)
		}
	}
	return p
}

// lacks reports whether the peer has an older copy, or none and room for it.
func (p *Peer) lacks(d Digest) bool {
	if old, ok := p.copies[CopyKey{d.Image, d.Host}]; ok {
		return d.Epoch > old.Epoch || d.Epoch == old.Epoch && d.Version > old.Version
	}
	hosts, known := p.hosts[d.Image]
	return p.others > 0 && (known || p.images > 0) && profile.Admits(hosts, d.Host)
}

// add notes a copy that the peer gets.
func (p *Peer) add(d Digest) {
	at := CopyKey{d.Image, d.Host}
	if _, ok := p.copies[at]; !ok {
		p.others--
		hosts, known := p.hosts[d.Image]
		if !known {
			p.images--
		}
		p.hosts[d.Image] = append(hosts, d.Host)
	}
	p.copies[at] = d
}

// CopiesFor are the copies that a peer lacks, or has an older version of, in at most
// that many bytes: images in use first. One copy has at most 9 KB; with less than
// that allowed some are never given.
func (s *Set) CopiesFor(now time.Time, peer *Peer, maxBytes int) (out []Copy) {
	for _, key := range s.inOrder() {
		i := s.images[key]
		s.eachCopy(now, key, i, func(d Digest, c profile.Copy) {
			if maxBytes <= 0 || !peer.lacks(d) {
				return
			}
			one := Copy{
				Image: key, Host: d.Host, Epoch: d.Epoch, Version: d.Version,
				Packed: i.published.packed, Seal: c.Seal,
			}
			if d.Host != s.self {
				one.Packed = c.Profile.Marshal()
			}
			if maxBytes -= one.size(); maxBytes >= 0 {
				out = append(out, one)
				peer.add(d)
			}
		})
		if maxBytes <= 0 {
			break
		}
	}
	return out
}

func (c *Copy) size() int {
	return len(c.Image) + len(c.Host) + len(c.Packed) + len(c.Seal) + copyOverhead
}

// open checks a copy's fields and reads its profile.
func (c *Copy) open() (*profile.Profile, error) {
	if !validName(string(c.Image), maxImageKey) || !validName(string(c.Host), maxHost) || len(c.Seal) > maxSeal {
		return nil, fmt.Errorf("%w: an image's key of %d bytes, a host's id of %d, a seal of %d",
			ErrCopy, len(c.Image), len(c.Host), len(c.Seal))
	}
	p, err := profile.Unmarshal(c.Packed)
	if err != nil {
		return nil, fmt.Errorf("%w: of image %s on host %s: %w", ErrCopy, c.Image, c.Host.Short(), err)
	}
	if p.Epoch != c.Epoch || p.Version != c.Version || p.Version == 0 {
		return nil, fmt.Errorf("%w: of image %s on host %s: version %d.%d, announced as %d.%d",
			ErrCopy, c.Image, c.Host.Short(), p.Epoch, p.Version, c.Epoch, c.Version)
	}
	return p, nil
}

// validName: printable ASCII without a slash, as the store's keys need.
func validName(s string, maxLen int) bool {
	return s != "" && len(s) <= maxLen &&
		strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) < 0
}

// Opened are copies of other hosts whose fields were checked.
type Opened struct {
	copies   []Copy
	profiles []*profile.Profile // nil: the copy is malformed
}

// Open reads copies of other hosts whose seals were verified, the first 4096 of them.
// Only malformed ones are left out; the error is an ErrCopy for the first of them.
func Open(copies []Copy) (o Opened, err error) {
	o.copies = copies[:min(len(copies), maxCopies)]
	o.profiles = make([]*profile.Profile, len(o.copies))
	for n := range o.copies {
		var bad error
		if o.profiles[n], bad = o.copies[n].open(); bad != nil && err == nil {
			err = bad
		}
	}
	return o, err
}

// Merge takes in copies of other hosts, and returns how many were newer than what was
// there. Copies beyond the bounds, and of hosts that are gone for long, are ignored.
// Of this node's own id it takes only what an earlier start of it knew: see recover.
func (s *Set) Merge(now time.Time, o Opened) (news int) {
	if s.self == "" {
		return 0
	}
	unused, copies := s.count()
	for n, p := range o.profiles {
		if p == nil || !current(p.Last(), now) {
			continue
		}
		at := &o.copies[n]
		i := s.images[at.Image]
		known := i != nil && (i.shared.Of(at.Host) != nil || at.Host == s.self)
		if !known && (copies >= maxCopies || (i == nil || i.containers == 0) && copies >= maxUnusedCopies) {
			continue
		}
		if i == nil {
			if unused >= maxUnused || len(s.images) >= maxImages {
				continue
			}
			i = s.newImage(now, nil)
			s.images[at.Image] = i
			unused++
		}
		if at.Host == s.self {
			if i.recover(p) {
				news++
			}
			continue
		}
		before := i.shared.Len()
		if i.shared.PutCopy(profile.Copy{Host: at.Host, Profile: p, Seal: at.Seal}) {
			i.unsaved[at.Host] = true
			news++
		}
		copies += i.shared.Len() - before
	}
	return news
}

// recover takes back what this node knew before its disk was lost, or was set back to
// an earlier state: a copy of its own that was observed longer than the present one.
// Observations of another epoch are different ones and add up; those of the same epoch
// are the same ones and more. After that, no copy is longer than the present one.
//
// A newer version of its own copy is exceeded, or others would keep that one for ever.
func (i *Image) recover(p *profile.Profile) (news bool) {
	if news = p.ObservedFor() > i.own.ObservedFor(); news {
		if p.Epoch != i.own.Epoch && p.Merge(i.own) != nil {
			return false
		}
		own := i.own
		if i.own = p; own.Newer(p) {
			p.Epoch, p.Version = own.Epoch, own.Version
		}
		i.observed = true
		i.shared.Replace(i.self, p)
	} else if news = p.Newer(i.own); news {
		i.own.Epoch, i.own.Version = p.Epoch, p.Version
	}
	if news {
		i.dirty, i.writtenAt, i.published = true, time.Time{}, publication{}
	}
	return news
}
