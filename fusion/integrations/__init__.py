"""Predictions of other frameworks, into stores: a file a framework, imported only by its users.

    loader      any network and any loop over batches: `fusion.cache_predictions`
    hf          Hugging Face transformers and datasets
    lightning   Lightning's prediction writer
    monai       a transform and an engine's handler
    nnunet      an output folder of nnUNetv2_predict, while it fills
    mmengine    a hook of MMSegmentation's runner

All run again to go on: what is committed stays as it is.
"""
