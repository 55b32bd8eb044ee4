package cluster

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

const (
	// imagesEvery is how often one peer is asked what it knows of images: less than
	// the two minutes after which a host that lost its disk offers its own copies.
	imagesEvery = 30 * time.Second
	// A node that begins asks one peer a second until imagesCaughtUp of them had
	// nothing new, imagesSoonMost times at most: what it lost, or never had, it needs
	// before its containers' first limits.
	imagesSoon     = time.Second
	imagesCaughtUp = 3
	imagesSoonMost = 30
	// imageBytes bounds one answer.
	imageBytes = 256 << 10
	// imagesWithin bounds one exchange.
	imagesWithin = 5 * time.Second
)

// wanted asks a peer for what this node lacks.
type wanted struct {
	Sum  uint64         `cbor:"1,keyasint"` // of what the asker has
	Have []image.Digest `cbor:"2,keyasint,omitempty"`
}

// given is the answer. Same: there is nothing to give. More: send the list of what you have.
type given struct {
	Same  bool         `cbor:"1,keyasint,omitempty"`
	More  bool         `cbor:"2,keyasint,omitempty"`
	Parts []image.Copy `cbor:"3,keyasint,omitempty"`
}

// sealedPart is what a host signs of its own copy.
type sealedPart struct {
	Domain  string             `cbor:"1,keyasint"`
	Image   knowledge.ImageKey `cbor:"2,keyasint"`
	Host    knowledge.NodeID   `cbor:"3,keyasint"`
	Epoch   uint64             `cbor:"4,keyasint"`
	Version uint64             `cbor:"5,keyasint"`
	Packed  []byte             `cbor:"6,keyasint"`
}

const partDomain = "effiscale image 1"

// SealPart is mape.Options.Seal: the public key and the signature.
func SealPart(id *trust.Identity) func(key knowledge.ImageKey, epoch, version uint64, packed []byte) []byte {
	return func(key knowledge.ImageKey, epoch, version uint64, packed []byte) []byte {
		b, err := trust.Marshal(sealedPart{partDomain, key, id.ID(), epoch, version, packed})
		if err != nil {
			return nil
		}
		return append(append([]byte(nil), id.Public()...), id.Sign(b)...)
	}
}

// images exchanges with other hosts what is known of images.
type images struct {
	c        *Cluster
	askedAt  time.Time
	turn     int // questions so far, and caughtUp those that brought nothing new
	caughtUp int
}

// interval is the time to the next question.
func (i *images) interval() time.Duration {
	if i.caughtUp < imagesCaughtUp && i.turn < imagesSoonMost {
		return imagesSoon
	}
	return imagesEvery
}

// nextPeer is the node to ask in that turn, counted from its own place among the
// members: the 1st after it, the 2nd, 4th, 8th and so on, and then all over, shifted by
// one. So what one node knows reaches n of them in about log2(n) turns, since no two
// ask the same one in the same turn, and after n rounds each has asked each.
func nextPeer(members []knowledge.NodeID, self knowledge.NodeID, turn int) (to knowledge.NodeID, ok bool) {
	others := len(members) - 1
	place := slices.Index(members, self)
	if others < 1 || place < 0 {
		return "", false
	}
	doublings := bits.Len(uint(others))
	step := 1<<(turn%doublings) - 1 + turn/doublings
	return members[(place+1+step%others)%len(members)], true
}

// exchangeIfDue asks the next peer; the first question comes as soon as there is one.
func (i *images) exchangeIfDue(now time.Time) {
	if now.Sub(i.askedAt) < i.interval() {
		return
	}
	c := i.c
	to, ok := nextPeer(c.liveness.alive(now), c.self, i.turn)
	if !ok {
		return
	}
	i.askedAt = now
	i.turn++
	c.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, imagesWithin)
		defer cancel()
		news, refused, err := i.exchange(ctx, to)
		c.post(func() {
			c.count.ImagesTaken += uint64(news)
			c.count.ImagesRefused += uint64(refused)
			if err == nil && news == 0 {
				i.caughtUp++
			}
		})
		if err != nil && ctx.Err() == nil {
			c.log.Debug().Err(err).Str("peer", to.Short()).Msg("cannot fetch image profiles")
		}
	})
}

// exchange pulls what one peer has newer.
func (i *images) exchange(ctx context.Context, to knowledge.NodeID) (news, refused int, err error) {
	have, err := i.c.host.ImageDigests(ctx)
	if err != nil {
		return 0, 0, err
	}
	answer, err := i.ask(ctx, to, wanted{Sum: image.Checksum(have)})
	if err != nil || answer.Same {
		return 0, 0, err
	}
	if answer, err = i.ask(ctx, to, wanted{Sum: image.Checksum(have), Have: have}); err != nil {
		return 0, 0, err
	}
	good := answer.Parts[:0]
	for _, p := range answer.Parts {
		if genuine(&p) {
			good = append(good, p)
		} else {
			refused++
		}
	}
	news, err = i.c.host.MergeImages(ctx, good)
	return news, refused, err
}

// genuine reports whether a part was signed by the host that it names.
func genuine(p *image.Copy) bool {
	b, err := trust.Marshal(sealedPart{partDomain, p.Image, p.Host, p.Epoch, p.Version, p.Packed})
	return err == nil && trust.Signed(p.Host, b, p.Seal)
}

func (i *images) ask(ctx context.Context, to knowledge.NodeID, w wanted) (given, error) {
	var g given
	b, err := trust.Marshal(w)
	if err != nil {
		return g, err
	}
	answer, err := i.c.relay.Call(ctx, to, "images", b)
	if err != nil {
		return g, err
	}
	return g, trust.Unmarshal(answer, &g)
}

// answer serves a peer that asks.
func (i *images) answer(ctx context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
	var w wanted
	if err := trust.Unmarshal(body, &w); err != nil {
		return nil, err
	}
	if w.Have == nil {
		mine, err := i.c.host.ImageDigests(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot list image profiles: %w", err)
		}
		same := image.Checksum(mine) == w.Sum
		return trust.Marshal(given{Same: same, More: !same})
	}
	parts, err := i.c.host.ImageCopies(ctx, w.Have, imageBytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read image profiles: %w", err)
	}
	return trust.Marshal(given{Parts: parts})
}
