"""The paper in miniature: Tables 1 to 5 measured on generated scenes, beside the paper's numbers.

    sizes      how large everything is
    roster     what is trained, of what it starts, and its configuration
    produce    training it, and stores of val and test
    fused      what is made of all together: the ladder, a soup, a student
    tables     rows of scores and of gains, with intervals
    seeds      the same gains over several repetitions

11 MaskFormers and 11 Swin-UPerNets that differ by crop, split and seed, and what the tables compare
with them. All of a family start from one that was trained on further videos, as the paper's start
from ImageNet-22k. Rows that are compared have had the same number of steps: what trains on scores
higher here, and a gain that is only more training is no gain. Where the paper's effect does not
show, the table shows that.
"""
