package mape

import (
	"context"
	"errors"
	"time"

	"github.com/effiscale/effiscale/mape/actor"
	"github.com/effiscale/effiscale/mape/image"
)

// imageExchange answers other hosts about images, and takes in what they know.
type imageExchange struct {
	*actor.Actor // owns images
	images       *image.Set
	now          func() time.Time
}

// ImageDigests are the versions of all copies of images' profiles that this node has.
func (e *imageExchange) ImageDigests(ctx context.Context) (out []image.Digest, err error) {
	err = e.Do(ctx, func() { out = e.images.Digests(e.now()) })
	return out, err
}

// ImageCopies are the copies that a peer lacks, by its digests.
func (e *imageExchange) ImageCopies(
	ctx context.Context, digests []image.Digest, maxBytes int,
) (out []image.Copy, err error) {
	peer := image.ReadDigests(digests)
	err = e.Do(ctx, func() { out = e.images.CopiesFor(e.now(), peer, maxBytes) })
	return out, err
}

// MergeImages takes in copies of other hosts whose seals were verified, and returns
// how many were news. The error is an image.ErrCopy for the first malformed one.
func (e *imageExchange) MergeImages(ctx context.Context, copies []image.Copy) (news int, err error) {
	opened, err := image.Open(copies)
	doErr := e.Do(ctx, func() { news = e.images.Merge(e.now(), opened) })
	return news, errors.Join(doErr, err)
}
