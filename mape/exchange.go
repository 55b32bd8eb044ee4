package mape

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
)

// Bounds of what comes from other hosts, in bytes. An image's key has 81, a host's
// id 32, an Ed25519 signature 64.
const (
	imageKeyMost = 128
	hostMost     = 64
	sealMost     = 256
	// partFrame is what a Part's encoding adds to its words at most.
	partFrame = 48
)

// ErrPart means that a part of another host is not what it should be.
var ErrPart = errors.New("no copy of an image's profile")

// ImageCopy names one host's copy of an image's profile.
type ImageCopy struct {
	Image knowledge.ImageKey
	Host  knowledge.NodeID
}

// SealedCopy is a packed profile and its host's signature over it; nil: none.
type SealedCopy struct{ Packed, Seal []byte }

// Part is one host's copy of an image's profile as it travels. The seal is the
// host's signature over the rest, made by Options.Seal; whoever receives a part
// verifies it before Merge.
type Part struct {
	Image   knowledge.ImageKey `cbor:"1,keyasint"`
	Host    knowledge.NodeID   `cbor:"2,keyasint"`
	Epoch   uint64             `cbor:"3,keyasint"`
	Version uint64             `cbor:"4,keyasint"`
	Packed  []byte             `cbor:"5,keyasint"`
	Seal    []byte             `cbor:"6,keyasint,omitempty"`
}

// Held says which copy a node has. One of Version 0 is no copy: the node knows the
// image and asks for what others do. One without an image says
// for how many further images (Epoch) and copies (Version) there is room; without
// it there is room for all.
type Held struct {
	Image   knowledge.ImageKey `cbor:"1,keyasint,omitempty"`
	Host    knowledge.NodeID   `cbor:"2,keyasint,omitempty"`
	Epoch   uint64             `cbor:"3,keyasint"`
	Version uint64             `cbor:"4,keyasint"`
}

// Sum is the same for two nodes that hold the same copies: with it they need not
// tell each other which.
func Sum(have []Held) (sum uint64) {
	var b []byte
	for _, h := range have {
		if h.Version == 0 || h.Image == "" {
			continue
		}
		f := fnv.New64a()
		b = append(append(append(b[:0], h.Image...), '/'), h.Host...)
		b = strconv.AppendUint(append(b, '/'), h.Epoch, 36)
		b = strconv.AppendUint(append(b, '/'), h.Version, 36)
		_, _ = f.Write(b) // never fails
		sum += f.Sum64()
	}
	return sum
}

// offer is the copy of its own that a host gives to others. It is one that was
// written to the disk, and not every one.
type offer struct {
	epoch, version uint64
	packed, seal   []byte
	at             time.Time
	last           time.Time     // when CPU was observed last
	observed       time.Duration // in all
}

func offerOf(now time.Time, p *profile.Profile, packed []byte) offer {
	return offer{epoch: p.Epoch, version: p.Version, packed: packed, at: now, last: p.Last(), observed: p.ObservedFor()}
}

// due reports whether o is to give way to a newer one.
func (o *offer) due(to *offer) bool {
	return o.version == 0 || o.epoch != to.epoch || to.at.Sub(o.at) >= offersApart || to.observed-o.observed >= o.observed/imagesFresh
}

func (l *Loop) seal(key knowledge.ImageKey, o *offer) []byte {
	if l.o.Seal == nil {
		return nil
	}
	return l.o.Seal(key, o.epoch, o.version, o.packed)
}

// current reports whether a copy still counts: its host observed something in the
// last 30 days, by this host's clock. The time is part of what the host signed, so
// that a copy of a host that is gone ends on all nodes, however often they give it
// to each other.
func current(last, now time.Time) bool {
	return !last.IsZero() && now.Sub(last) <= copyLife && last.Sub(now) <= copyFromFuture
}

// inOrder are the images, those of containers first, then those that were gone last.
func (l *Loop) inOrder() []knowledge.ImageKey {
	keys := make([]knowledge.ImageKey, 0, len(l.images))
	for key := range l.images {
		keys = append(keys, key)
	}
	knowledge.SortFunc(keys, func(a, b knowledge.ImageKey) int {
		switch used := l.images[a].units > 0; {
		case used != (l.images[b].units > 0):
			if used {
				return -1
			}
			return 1
		case used:
			return strings.Compare(string(a), string(b))
		}
		return l.gone(b, a)
	})
	return keys
}

// stock counts images that no container has, and copies.
func (l *Loop) stock() (idle, copies int) {
	for _, i := range l.images {
		copies += i.shared.Len()
		if i.units == 0 {
			idle++
		}
	}
	return idle, copies
}

// copiesOf are the copies of an image that may be given to others, this host's first.
func (l *Loop) copiesOf(now time.Time, key knowledge.ImageKey, i *image, yield func(Held, profile.Copy)) {
	if o := &i.offer; o.version > 0 && current(o.last, now) {
		if o.seal == nil {
			o.seal = l.seal(key, o)
		}
		yield(Held{key, l.o.Node, o.epoch, o.version}, profile.Copy{Host: l.o.Node, Seal: o.seal})
	}
	for c := range i.shared.All() {
		if c.Host == l.o.Node || !current(c.Profile.Last(), now) || c.Seal == nil && l.o.Seal != nil {
			continue
		}
		yield(Held{key, c.Host, c.Profile.Epoch, c.Profile.Version}, c)
	}
}

// Holds says which copies this node has, images of its containers first: at most
// 4096, at about 130 bytes 0.5 MB. The first one says how much room there is.
func (l *Loop) Holds(ctx context.Context) (out []Held, err error) {
	err = l.Do(ctx, func() { out = l.holds(l.o.Now()) })
	return out, err
}

func (l *Loop) holds(now time.Time) []Held {
	idle, copies := l.stock()
	room := Held{Epoch: uint64(max(min(imagesIdle-idle, imagesMost-len(l.images)), 0)), Version: uint64(max(copiesMost-copies, 0))}
	if copies >= copiesIdle {
		room.Epoch = 0
	}
	out := []Held{room}
	for _, key := range l.inOrder() {
		i := l.images[key]
		if o := &i.offer; (i.units > 0 || i.known) && (o.version == 0 || !current(o.last, now)) {
			out = append(out, Held{Image: key, Host: l.o.Node})
		}
		l.copiesOf(now, key, i, func(h Held, _ profile.Copy) { out = append(out, h) })
	}
	return out[:min(len(out), copiesMost)]
}

// theirs is what another node has.
type theirs struct {
	copies         map[ImageCopy]Held
	hosts          map[knowledge.ImageKey][]knowledge.NodeID
	images, others uint64 // for which it has room
}

func read(have []Held) theirs {
	t := theirs{
		copies: map[ImageCopy]Held{}, hosts: map[knowledge.ImageKey][]knowledge.NodeID{},
		images: imagesMost, others: copiesMost,
	}
	for _, h := range have[:min(len(have), 2*copiesMost)] {
		if h.Image == "" {
			t.images, t.others = h.Epoch, h.Version
			continue
		}
		t.copies[ImageCopy{h.Image, h.Host}] = h
		if hosts := t.hosts[h.Image]; len(hosts) <= profile.MaxHosts {
			t.hosts[h.Image] = append(hosts, h.Host)
		}
	}
	return t
}

// wants reports whether the other one has an older copy, or none and room for it.
func (t *theirs) wants(h Held) bool {
	if old, ok := t.copies[ImageCopy{h.Image, h.Host}]; ok {
		return h.Epoch > old.Epoch || h.Epoch == old.Epoch && h.Version > old.Version
	}
	hosts, known := t.hosts[h.Image]
	return t.others > 0 && (known || t.images > 0) && profile.Admits(hosts, h.Host)
}

// took notes that the other one is given a copy.
func (t *theirs) took(h Held) {
	at := ImageCopy{h.Image, h.Host}
	if _, ok := t.copies[at]; !ok {
		t.others--
		hosts, known := t.hosts[h.Image]
		if !known {
			t.images--
		}
		t.hosts[h.Image] = append(hosts, h.Host)
	}
	t.copies[at] = h
}

// Parts are the copies that this node has and another one lacks, or has an older one
// of, in at most that many bytes: images of this node's containers first. One part
// has at most 9 KB; with less than that allowed some are never given.
func (l *Loop) Parts(ctx context.Context, have []Held, most int) (out []Part, err error) {
	t := read(have)
	err = l.Do(ctx, func() { out = l.parts(l.o.Now(), &t, most) })
	return out, err
}

func (l *Loop) parts(now time.Time, t *theirs, most int) (out []Part) {
	for _, key := range l.inOrder() {
		i := l.images[key]
		l.copiesOf(now, key, i, func(h Held, c profile.Copy) {
			if most <= 0 || !t.wants(h) {
				return
			}
			p := Part{Image: key, Host: h.Host, Epoch: h.Epoch, Version: h.Version, Packed: i.offer.packed, Seal: c.Seal}
			if h.Host != l.o.Node {
				p.Packed = c.Profile.Marshal()
			}
			if most -= p.size(); most >= 0 {
				out = append(out, p)
				t.took(h)
			}
		})
		if most <= 0 {
			break
		}
	}
	return out
}

func (p *Part) size() int {
	return len(p.Image) + len(p.Host) + len(p.Packed) + len(p.Seal) + partFrame
}

// open checks a part's words and reads its profile, or says what is wrong.
func (p *Part) open() (*profile.Profile, error) {
	if !word(string(p.Image), imageKeyMost) || !word(string(p.Host), hostMost) || len(p.Seal) > sealMost {
		return nil, fmt.Errorf("%w: an image's key of %d bytes, a host's id of %d, a seal of %d", ErrPart, len(p.Image), len(p.Host), len(p.Seal))
	}
	q, err := profile.Unmarshal(p.Packed)
	if err != nil {
		return nil, fmt.Errorf("%w: of image %s on host %s: %w", ErrPart, p.Image, p.Host.Short(), err)
	}
	if q.Epoch != p.Epoch || q.Version != p.Version || q.Version == 0 {
		return nil, fmt.Errorf("%w: of image %s on host %s: version %d.%d, told as %d.%d",
			ErrPart, p.Image, p.Host.Short(), q.Epoch, q.Version, p.Epoch, p.Version)
	}
	return q, nil
}

// word: what may stand in a key of the store.
func word(s string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) < 0
}

// Merge takes in parts of other hosts whose seals were verified, and returns how
// many were news. What is not as it should be is left out alone, and the error is
// an ErrPart for the first of it; what there is no room for, or is of a host that
// is long gone, is left out without a word. Of this node's own id it takes only what
// an earlier life of it knew: see recall.
func (l *Loop) Merge(ctx context.Context, parts []Part) (news int, err error) {
	parts = parts[:min(len(parts), copiesMost)]
	open := make([]*profile.Profile, len(parts))
	for n := range parts {
		var bad error
		if open[n], bad = parts[n].open(); bad != nil && err == nil {
			err = bad
		}
	}
	doErr := l.Do(ctx, func() { news = l.merge(l.o.Now(), parts, open) })
	return news, errors.Join(doErr, err)
}

// merge takes in the parts that were opened.
func (l *Loop) merge(now time.Time, parts []Part, open []*profile.Profile) (news int) {
	if l.o.Node == "" {
		return 0
	}
	idle, copies := l.stock()
	for n, p := range open {
		if p == nil || !current(p.Last(), now) {
			continue
		}
		at := &parts[n]
		i := l.images[at.Image]
		known := i != nil && (i.shared.Of(at.Host) != nil || at.Host == l.o.Node)
		if !known && (copies >= copiesMost || (i == nil || i.units == 0) && copies >= copiesIdle) {
			continue
		}
		if i == nil {
			if idle >= imagesIdle || len(l.images) >= imagesMost {
				continue
			}
			i = newImage(now, l.o.Node, nil)
			l.images[at.Image] = i
			idle++
		}
		if at.Host == l.o.Node {
			if i.recall(p) {
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

// recall takes back what this node knew before its disk was lost, or set back to an
// earlier state: a copy of its own that observed longer than it has. Another epoch's
// observations are others than the present ones and add up; of the same epoch they
// are the same ones and more. What has been taken back is never longer again.
//
// Any newer copy of its own it goes beyond, or others would prefer that one for ever.
func (i *image) recall(p *profile.Profile) (news bool) {
	if news = p.ObservedFor() > i.own.ObservedFor(); news {
		if p.Epoch != i.own.Epoch && p.Merge(i.own) != nil {
			return false
		}
		own := i.own
		if i.own = p; own.Newer(p) {
			p.Epoch, p.Version = own.Epoch, own.Version
		}
		i.known = true
		i.shared.Replace(i.self, p)
	} else if news = p.Newer(i.own); news {
		i.own.Epoch, i.own.Version = p.Epoch, p.Version
	}
	if news {
		i.dirty, i.wroteAt, i.offer = true, time.Time{}, offer{}
	}
	return news
}
