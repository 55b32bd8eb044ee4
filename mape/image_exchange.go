package mape

import (
	"context"
	"errors"

	"github.com/effiscale/effiscale/mape/image"
)

// ImageDigests are the versions of all copies of images' profiles that this node has.
func (l *Loop) ImageDigests(ctx context.Context) (out []image.Digest, err error) {
	err = l.Do(ctx, func() { out = l.images.Digests(l.o.Now()) })
	return out, err
}

// ImageCopies are the copies that a peer lacks, by its digests.
func (l *Loop) ImageCopies(ctx context.Context, digests []image.Digest, maxBytes int) (out []image.Copy, err error) {
	peer := image.ReadDigests(digests)
	err = l.Do(ctx, func() { out = l.images.CopiesFor(l.o.Now(), peer, maxBytes) })
	return out, err
}

// MergeImages takes in copies of other hosts whose seals were verified, and returns
// how many were news. The error is an image.ErrCopy for the first malformed one.
func (l *Loop) MergeImages(ctx context.Context, copies []image.Copy) (news int, err error) {
	opened, err := image.Open(copies)
	doErr := l.Do(ctx, func() { news = l.images.Merge(l.o.Now(), opened) })
	return news, errors.Join(doErr, err)
}
