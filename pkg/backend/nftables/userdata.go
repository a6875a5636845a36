//go:build linux

package nftables

import (
	"bytes"
	"encoding/binary"
)

// Userdata is a list of type, length and value, a byte each for the first two.
// The kernel keeps it unread; nft(8) shows comments from it.

// commentRule is the kind of a comment on rules and on elements (libnftnl,
// udata.h).
const commentRule = 0

// maxComment is the longest comment that nft(8) takes, its final zero byte
// included (NFTNL_UDATA_COMMENT_MAXLEN).
const maxComment = 128

func appendComment(p []byte, kind uint8, comment string) []byte {
	if len(comment) >= maxComment {
		comment = comment[:maxComment-1]
	}
	p = append(p, kind, uint8(len(comment)+1))
	p = append(p, comment...)
	return append(p, 0)
}

func appendOrder(p []byte, kind uint8, order uint32) []byte {
	return binary.NativeEndian.AppendUint32(append(p, kind, 4), order)
}

func appendUserdata(p []byte, kind uint8, value []byte) []byte {
	return append(append(p, kind, uint8(len(value))), value...)
}

func eachUserdata(p []byte, each func(kind uint8, value []byte)) {
	for len(p) >= 2 && len(p) >= 2+int(p[1]) {
		end := 2 + int(p[1])
		each(p[0], p[2:end])
		p = p[end:]
	}
}

// comment finds the comment of a rule or an element. It shares the buffer.
func comment(p []byte) []byte {
	var found []byte
	eachUserdata(p, func(kind uint8, value []byte) {
		if kind == commentRule && found == nil {
			found = bytes.TrimSuffix(value, []byte{0})
		}
	})
	return found
}

// text is a string without its final zero byte.
func text(p []byte) string {
	if len(p) > 0 && p[len(p)-1] == 0 {
		p = p[:len(p)-1]
	}
	return string(p)
}
