: docker
