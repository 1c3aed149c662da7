"""What saltflat keeps: blobs, links with their states, boot images, bundles."""
