SELECT now FROM provision.moment
